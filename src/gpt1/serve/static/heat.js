// Attention as a picture: a pixel for a weight, in the colour of the theme.

/** The mean of several heads' rows; row t holds t + 1 weights. */
export function mean(heads) {
  return heads[0].map((row, t) => row.map((_, s) => heads.reduce((sum, rows) => sum + rows[t][s], 0) / heads.length));
}

/** Rows in which the first token has no share and the others sum to 1 again; the first row has nothing else to see. */
export function withoutFirst(rows) {
  return rows.map((row) => {
    const rest = row.slice(1).reduce((sum, weight) => sum + weight, 0);
    return row.map((weight, position) => (position && rest > 0 ? weight / rest : 0));
  });
}

/** Paint rows into a canvas of one pixel a weight (CSS makes it larger); darker is more, by the square root. */
export function heat(canvas, rows) {
  const size = rows.length;
  canvas.width = canvas.height = size;
  const context = canvas.getContext("2d");
  const image = context.createImageData(size, size);
  const [red, green, blue] = ink(canvas);
  rows.forEach((row, t) =>
    row.forEach((weight, s) => {
      image.data.set([red, green, blue, Math.round(255 * Math.sqrt(Math.min(1, weight)))], 4 * (t * size + s));
    }),
  );
  context.putImageData(image, 0, 0);
}

/** The element's colour as three bytes, whatever the notation that the browser gives it in. */
function ink(element) {
  const context = new OffscreenCanvas(1, 1).getContext("2d");
  context.fillStyle = getComputedStyle(element).color;
  context.fillRect(0, 0, 1, 1);
  return context.getImageData(0, 0, 1, 1).data;
}
