// Strokes become a picture such as those that the network has learned.

// How the strokes of a picture of some shape lie in it, in pixels. MNIST's digits fill a box of
// 20 of 28 pixels, and their centre of mass is in the middle. The digits of 8 pixels stand upright
// and fill the image.
export function layout([height, width]) {
  const side = Math.min(height, width);
  return side < 16
    ? { height, width, box: side, pen: side * 0.075, samples: 4, fills: true }
    : { height, width, box: (side * 20) / 28, pen: (side * 1.4) / 28, samples: 2, fills: false };
}

// Return the bytes of the picture of strokes, each a list of points [x, y] of any unit.
export function rasterise(strokes, { height, width, box, pen, samples, fills }) {
  const pixels = new Uint8Array(height * width);
  if (!strokes.flat().length) return pixels;
  const upright = fills ? straighten(strokes) : strokes;
  const [left, right] = ends(upright, 0);
  const [top, bottom] = ends(upright, 1);
  const middle = [(left + right) / 2, (top + bottom) / 2];
  const scale = (box - 2 * pen) / Math.max(right - left, bottom - top, 1e-6);
  const place = (shift) =>
    upright.map((stroke) =>
      stroke.map(([x, y]) => [
        (x - middle[0]) * scale + width / 2 + shift[0],
        (y - middle[1]) * scale + height / 2 + shift[1],
      ]),
    );
  let ink = cover(place([0, 0]), height, width, pen, samples);
  if (!fills) {
    const [x, y] = centreOfMass(ink, height, width);
    ink = cover(place([width / 2 - x, height / 2 - y]), height, width, pen, samples);
  }
  return pixels.map((_, i) => Math.round(255 * ink[i]));
}

// Return strokes without their slant: points far above the middle are no more to the right of it
// than those far below.
function straighten(strokes) {
  let [mass, x, y, xy, yy] = [0, 0, 0, 0, 0];
  for (const stroke of strokes) {
    for (let i = 1; i < stroke.length; i++) {
      const [[x0, y0], [x1, y1]] = [stroke[i - 1], stroke[i]];
      const [length, u, v] = [Math.hypot(x1 - x0, y1 - y0), (x0 + x1) / 2, (y0 + y1) / 2];
      mass += length;
      x += length * u;
      y += length * v;
      xy += length * u * v;
      yy += length * v * v;
    }
  }
  const spread = yy - (y * y) / mass;
  const slant = spread > 0 ? (xy - (x * y) / mass) / spread : 0;
  const shear = Math.min(Math.max(slant, -1), 1);
  return strokes.map((stroke) => stroke.map(([u, v]) => [u - shear * v, v]));
}

function ends(strokes, axis) {
  let [least, most] = [Infinity, -Infinity];
  for (const stroke of strokes) {
    for (const point of stroke) {
      least = Math.min(least, point[axis]);
      most = Math.max(most, point[axis]);
    }
  }
  return [least, most];
}

// Return how much of each pixel the strokes cover, 0 to 1.
function cover(strokes, height, width, pen, samples) {
  const ink = new Float64Array(height * width);
  const columns = width * samples;
  const nearest = new Float64Array(height * samples * columns).fill(Infinity);
  const reach = pen + 1;
  for (const stroke of strokes) {
    for (let i = 0; i < stroke.length; i++) {
      const [x0, y0] = stroke[Math.max(i - 1, 0)];
      const [x1, y1] = stroke[i];
      const [dx, dy] = [x1 - x0, y1 - y0];
      const length = dx * dx + dy * dy;
      const rows = range(Math.min(y0, y1) - reach, Math.max(y0, y1) + reach, samples, height);
      const across = range(Math.min(x0, x1) - reach, Math.max(x0, x1) + reach, samples, width);
      for (let row = rows[0]; row < rows[1]; row++) {
        const y = (row + 0.5) / samples;
        for (let column = across[0]; column < across[1]; column++) {
          const x = (column + 0.5) / samples;
          const along = length ? ((x - x0) * dx + (y - y0) * dy) / length : 0;
          const t = Math.min(Math.max(along, 0), 1);
          const far = (x - x0 - t * dx) ** 2 + (y - y0 - t * dy) ** 2;
          const place = row * columns + column;
          if (far < nearest[place]) nearest[place] = far;
        }
      }
    }
  }
  // The edge of a stroke is as soft as a sample is wide.
  const softness = 1 / samples;
  for (let row = 0; row < height * samples; row++) {
    for (let column = 0; column < columns; column++) {
      const far = Math.sqrt(nearest[row * columns + column]);
      const covered = Math.min(Math.max((pen - far) / softness + 0.5, 0), 1);
      const pixel = Math.floor(row / samples) * width + Math.floor(column / samples);
      ink[pixel] += covered / samples ** 2;
    }
  }
  return ink;
}

function range(from, to, samples, size) {
  return [Math.max(Math.floor(from * samples), 0), Math.min(Math.ceil(to * samples), size * samples)];
}

function centreOfMass(ink, height, width) {
  let [mass, x, y] = [0, 0, 0];
  ink.forEach((value, i) => {
    mass += value;
    x += value * ((i % width) + 0.5);
    y += value * (Math.floor(i / width) + 0.5);
  });
  return mass ? [x / mass, y / mass] : [width / 2, height / 2];
}
