// Photos as RGB pixels, {width, height, data}: data is height×width×3 bytes. Resizing equals Pillow's to the bit, so that
// the networks get the pixels that they get in Python.

const MOST_PIXELS = 150_000_000; // as core/photos.py
const STRIP = 1 << 22; // pixels that are read at a time: some browsers have no larger canvas than 16 million
const BITS = 22; // of the fixed-point weights, as in Pillow
const HALF = 1 << (BITS - 1);

export class PhotoError extends Error {}

// Decodes a file: turned upright, without its colour profile (Pillow ignores it too), transparent parts white.
export async function decodePhoto(file, name = "this file") {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { imageOrientation: "from-image", colorSpaceConversion: "none" });
  } catch {
    throw new PhotoError(`This browser cannot read ${name} as a photo. Choose a JPEG, PNG or WebP file.`);
  }
  if (bitmap.width * bitmap.height > MOST_PIXELS) {
    bitmap.close();
    throw new PhotoError(`A photo may have ${MOST_PIXELS / 1e6} megapixels, and ${name} has more. Choose a smaller one.`);
  }
  const pixels = readPixels(bitmap);
  bitmap.close();
  return pixels;
}

function readPixels(bitmap) {
  const { width, height } = bitmap;
  const rows = Math.min(height, Math.max(1, Math.floor(STRIP / width)));
  const context = new OffscreenCanvas(width, rows).getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white";
  const data = new Uint8Array(width * height * 3);
  for (let top = 0, to = 0; top < height; top += rows) {
    const count = Math.min(rows, height - top);
    context.fillRect(0, 0, width, count);
    context.drawImage(bitmap, 0, top, width, count, 0, 0, width, count);
    const rgba = context.getImageData(0, 0, width, count).data;
    for (let from = 0; from < rgba.length; from += 4) {
      data[to++] = rgba[from];
      data[to++] = rgba[from + 1];
      data[to++] = rgba[from + 2];
    }
  }
  return { width, height, data };
}

export function crop({ width, data }, [left, top, right, bottom]) {
  const cut = new Uint8Array((right - left) * (bottom - top) * 3);
  for (let y = top, to = 0; y < bottom; y++, to += (right - left) * 3) {
    cut.set(data.subarray((y * width + left) * 3, (y * width + right) * 3), to);
  }
  return { width: right - left, height: bottom - top, data: cut };
}

// Pillow's antialiased bilinear filter. `gap` is its `reducing_gap`: a photo is first reduced by whole factors to no less
// than `gap` times the size, which is fast.
export function resize(photo, width, height, gap = 0) {
  const fx = gap ? Math.trunc(photo.width / width / gap) || 1 : 1;
  const fy = gap ? Math.trunc(photo.height / height / gap) || 1 : 1;
  const small = fx > 1 || fy > 1 ? reduce(photo, fx, fy) : photo;
  const across = weights(small.width, photo.width / fx, width);
  const down = weights(small.height, photo.height / fy, height);
  return resizeRows(resizeColumns(small, across), down);
}

// Means of cells of fx×fy pixels; those at the right and bottom edge may be smaller.
export function reduce(photo, fx, fy) {
  const width = Math.ceil(photo.width / fx), height = Math.ceil(photo.height / fy);
  const data = new Uint8Array(width * height * 3);
  const sums = new Uint32Array(width * 3);
  for (let y = 0; y < height; y++) {
    const bottom = Math.min((y + 1) * fy, photo.height);
    sums.fill(0);
    for (let row = y * fy; row < bottom; row++) {
      let from = row * photo.width * 3;
      for (let x = 0; x < photo.width; x++) {
        const to = Math.trunc(x / fx) * 3;
        sums[to] += photo.data[from++];
        sums[to + 1] += photo.data[from++];
        sums[to + 2] += photo.data[from++];
      }
    }
    for (let x = 0; x < width; x++) {
      const count = (bottom - y * fy) * (Math.min((x + 1) * fx, photo.width) - x * fx);
      const multiplier = Math.floor(2 ** 32 / (count * 256)), half = Math.floor(count / 2);
      for (let channel = 3 * x; channel < 3 * x + 3; channel++) {
        data[y * width * 3 + channel] = Math.floor(((sums[channel] + half) * multiplier) / 2 ** 24);
      }
    }
  }
  return { width, height, data };
}

// The first pixel and the fixed-point weights of each of `size` pixels, from `extent` of `count` pixels, which may be a
// fraction; Pillow has it in single precision.
function weights(count, extent, size) {
  if (size === count && extent === count) return null;
  const scale = Math.fround(extent) / size, support = Math.max(scale, 1);
  return Array.from({ length: size }, (_, place) => {
    const center = (place + 0.5) * scale;
    const first = Math.max(0, Math.trunc(center - support + 0.5));
    const last = Math.min(count, Math.trunc(center + support + 0.5));
    const shares = Array.from({ length: last - first }, (_, k) =>
      Math.max(0, 1 - Math.abs((k + first - center + 0.5) / support)),
    );
    const sum = shares.reduce((total, share) => total + share, 0);
    return { first, fixed: Int32Array.from(shares, (share) => Math.trunc(0.5 + (share / (sum || 1)) * 2 ** BITS)) };
  });
}

function resizeColumns(photo, across) {
  if (!across) return photo;
  const { height } = photo, width = across.length;
  const data = new Uint8ClampedArray(width * height * 3);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const { first, fixed } = across[x];
      let from = (y * photo.width + first) * 3;
      let red = HALF, green = HALF, blue = HALF;
      for (let k = 0; k < fixed.length; k++) {
        red += photo.data[from++] * fixed[k];
        green += photo.data[from++] * fixed[k];
        blue += photo.data[from++] * fixed[k];
      }
      const to = (y * width + x) * 3;
      data[to] = red >> BITS;
      data[to + 1] = green >> BITS;
      data[to + 2] = blue >> BITS;
    }
  }
  return { width, height, data };
}

function resizeRows(photo, down) {
  if (!down) return photo;
  const { width } = photo, height = down.length;
  const data = new Uint8ClampedArray(width * height * 3);
  const sums = new Int32Array(width * 3);
  for (let y = 0; y < height; y++) {
    const { first, fixed } = down[y];
    sums.fill(HALF);
    for (let k = 0; k < fixed.length; k++) {
      const row = photo.data.subarray((first + k) * width * 3, (first + k + 1) * width * 3);
      for (let x = 0; x < row.length; x++) sums[x] += row[x] * fixed[k];
    }
    for (let x = 0; x < sums.length; x++) data[y * width * 3 + x] = sums[x] >> BITS;
  }
  return { width, height, data };
}

// Python's rounding: halves to the even number.
export function round(value) {
  const nearest = Math.round(value);
  return nearest - value === 0.5 && nearest % 2 ? nearest - 1 : nearest;
}
