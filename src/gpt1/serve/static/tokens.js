// Display of tokens: "sky</w>" ends a word, "dar" does not, "<eos>" is a special token.

const END = "</w>";

export const isSpecial = (token) => /^<(?!\/w>$)[a-z]+>$/.test(token);

/** Return {text, open}; `open` means that the token does not end its word. A line break is shown as ⏎. */
export function plain(token) {
  const open = !token.endsWith(END) && !isSpecial(token);
  const text = token.endsWith(END) ? token.slice(0, -END.length) : token;
  return { text: text.replaceAll("\n", "⏎"), open };
}
