// What a reload keeps: inputs and the API key for this tab, language and theme for this browser.

const PREFIX = "gpt1.";

const attempt = (action) => {
  try {
    return action();
  } catch {
    return null; // storage may be forbidden or full: the page works without it
  }
};

export const session = {
  get: (name) => attempt(() => JSON.parse(sessionStorage.getItem(PREFIX + name))),
  set: (name, value) => attempt(() => sessionStorage.setItem(PREFIX + name, JSON.stringify(value))),
};

export const remembered = {
  get: (name) => attempt(() => localStorage.getItem(PREFIX + name)),
  set: (name, value) => attempt(() => localStorage.setItem(PREFIX + name, value)),
};
