// Tokens for people: "sky</w>" ends a word, "dar" goes on, "<eos>" is a mark.

const END = "</w>";

export const isSpecial = (token) => /^<(?!\/w>$)[a-z]+>$/.test(token);

/** {text, open}: `open` where the word goes on. A line break shows as ⏎. */
export function plain(token) {
  const open = !token.endsWith(END) && !isSpecial(token);
  const text = token.endsWith(END) ? token.slice(0, -END.length) : token;
  return { text: text.replaceAll("\n", "⏎"), open };
}
