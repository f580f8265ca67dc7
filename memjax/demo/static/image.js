// An image of any size becomes one of the network's size.

const MOST_BYTES = 30e6;

// Return the pixels of a file or a video frame, cut to the shape of the network. A grey image with
// dark lines on a light ground is inverted if the memories are light on dark.
export async function fromImage(source, [height, width, channels], pictures) {
  if (source.size > MOST_BYTES) throw new Error("The image is too large; 30 MB are the most.");
  const whole = await createImageBitmap(source).catch(() => {
    throw new Error("This cannot be read as an image.");
  });
  const scale = Math.min(whole.width / width, whole.height / height);
  const [across, down] = [Math.max(width * scale, 1), Math.max(height * scale, 1)];
  const image = await createImageBitmap(
    whole,
    Math.floor((whole.width - across) / 2),
    Math.floor((whole.height - down) / 2),
    Math.floor(across),
    Math.floor(down),
    { resizeWidth: width, resizeHeight: height, resizeQuality: "high" },
  );
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillRect(0, 0, width, height);
  context.drawImage(image, 0, 0);
  const { data } = context.getImageData(0, 0, width, height);
  const pixels = new Uint8Array(height * width * channels);
  for (let i = 0; i < height * width; i++) {
    const [red, green, blue] = data.subarray(4 * i, 4 * i + 3);
    if (channels === 3) pixels.set([red, green, blue], 3 * i);
    else pixels[i] = Math.round(0.299 * red + 0.587 * green + 0.114 * blue);
  }
  const isInverted =
    channels === 1 && isDarkAround(pixels, height, width) !== areDarkAround(pictures, height, width);
  return isInverted ? pixels.map((value) => 255 - value) : pixels;
}

function isDarkAround(pixels, height, width) {
  let [sum, number] = [0, 0];
  pixels.forEach((value, i) => {
    const [row, column] = [Math.floor(i / width), i % width];
    if (row % (height - 1) && column % (width - 1)) return;
    sum += value;
    number += 1;
  });
  return sum / number < 128;
}

function areDarkAround(pictures, height, width) {
  const some = [...pictures.values()].slice(0, 50);
  const dark = some.filter((pixels) => isDarkAround(pixels, height, width)).length;
  return !some.length || dark > some.length / 2;
}
