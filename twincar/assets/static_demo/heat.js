// A heat map over the photo: clear where it is low, and in colours where it is high. What the colours are is Python's,
// models/cam/overlay.py: { colors, strongest, fall }; the opacity is strongest · value^fall.

const LONGEST = 800; // pixels

export function drawHeat(canvas, { width, height }, heat, style) {
  const scale = Math.min(1, LONGEST / Math.max(width, height));
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  const [left, top, right, bottom] = heat.box.map((edge) => edge * scale);
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(cells(heat, 16, style), left, top, right - left, bottom - top);
}

// The map at `factor` times its size: values are interpolated before they become colours, as colours would mix to others.
function cells({ width, height, values }, factor, { colors, strongest, fall }) {
  const rgb = colors.map((color) => [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16)));
  const picture = new ImageData(width * factor, height * factor);
  const near = (place, count) => {
    const at = Math.min(Math.max((place + 0.5) / factor - 0.5, 0), count - 1);
    return [Math.floor(at), Math.min(Math.floor(at) + 1, count - 1), at % 1];
  };
  for (let y = 0; y < picture.height; y++) {
    const [y0, y1, down] = near(y, height);
    for (let x = 0; x < picture.width; x++) {
      const [x0, x1, across] = near(x, width);
      const mix = (row) => values[row * width + x0] * (1 - across) + values[row * width + x1] * across;
      const value = mix(y0) * (1 - down) + mix(y1) * down;
      picture.data.set([...colorOf(rgb, value), 255 * strongest * value ** fall], 4 * (y * picture.width + x));
    }
  }
  const canvas = new OffscreenCanvas(picture.width, picture.height);
  canvas.getContext("2d").putImageData(picture, 0, 0);
  return canvas;
}

function colorOf(rgb, value) {
  const at = value * (rgb.length - 1), first = Math.min(Math.floor(at), rgb.length - 2);
  return rgb[first].map((part, channel) => part + (at - first) * (rgb[first + 1][channel] - part));
}
