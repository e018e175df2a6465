// Example inputs, {name, value} each. The texts are English, as the models are.

const named = (value, name = value) => ({ value, name });

export const EXAMPLES = {
  single: [
    named("Warm, funny and over far too soon."),
    named("The handle broke on the second day."),
    named(
      "I wanted to love it. The photographs are beautiful, but the story never gets going and the ending is a mess.",
      "I wanted to love it …",
    ),
  ],
  pair: [
    named(
      {
        text_a: "A man in a red coat is playing the violin on a street corner.",
        text_b: "Somebody is making music outdoors.",
      },
      "The violin player",
    ),
    named(
      {
        text_a: "The shop opens at nine and closes at noon on Saturdays.",
        text_b: "You can buy something there on a Saturday evening.",
      },
      "The shop on Saturday",
    ),
  ],
  choices: [
    named(
      {
        context: "Anna planted a row of beans in May. She watered them every evening.",
        question: "What happened in August?",
        choices: ["She ate beans from her own garden.", "She sold her car to a dentist."],
      },
      "Anna's beans",
    ),
    named(
      {
        context: "The ice on the lake was thin, and Tom had been told so twice.",
        choices: ["He walked around the lake.", "The bread was still warm.", "He set the piano in the middle of it."],
      },
      "Thin ice",
    ),
  ],
  generate: ["The old house", "She opened the letter and", "“You are late,” said the captain."].map((text) =>
    named(text),
  ),
  next: ["The sun rises in the", "He shook his", "Once upon a"].map((text) => named(text)),
  attention: [
    "The old man took off his hat, because he was tired.",
    "She gave the child her coat and he thanked her for it.",
  ].map((text) => named(text)),
};
