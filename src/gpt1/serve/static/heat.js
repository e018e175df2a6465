// Attention heat maps: one pixel per weight, in the colour of the theme.

/** Mean of the heads' weights; row t has t + 1 weights. */
export function mean(heads) {
  return heads[0].map((row, t) => row.map((_, s) => heads.reduce((sum, rows) => sum + rows[t][s], 0) / heads.length));
}

/** Set the first token's weight to 0 and scale the others to sum 1; row 0 becomes all 0. */
export function withoutFirst(rows) {
  return rows.map((row) => {
    const rest = row.slice(1).reduce((sum, weight) => sum + weight, 0);
    return row.map((weight, position) => (position && rest > 0 ? weight / rest : 0));
  });
}

/** Draw rows into a canvas, one pixel per weight (scaled by CSS); opacity is the square root of the weight. */
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

/** Return the element's colour as RGB bytes, independent of the browser's notation. */
function ink(element) {
  const context = new OffscreenCanvas(1, 1).getContext("2d");
  context.fillStyle = getComputedStyle(element).color;
  context.fillRect(0, 0, 1, 1);
  return context.getImageData(0, 0, 1, 1).data;
}
