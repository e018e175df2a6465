// Browser storage: inputs and the API key per tab, language and theme per browser.

const PREFIX = "gpt1.";

const attempt = (action) => {
  try {
    return action();
  } catch {
    return null; // storage may be disabled or full: the page works without it
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
