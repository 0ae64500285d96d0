// Pixels as run lengths of the whole picture, column by column, zeros first, packed as COCO packs them; and back.

// Base64 of packed run lengths to one byte a pixel, row by row.
export function unpackMask(base64, width, height) {
  const packed = atob(base64);
  const counts = [];
  let value = 0, shift = 0;
  for (let at = 0; at < packed.length; at += 1) {
    const bits = packed.charCodeAt(at) - 48;
    value += (bits & 31) * 2 ** shift;
    shift += 5;
    if (bits & 32) continue;
    if (bits & 16) value -= 2 ** shift;
    if (counts.length > 2) value += counts[counts.length - 2];
    counts.push(value);
    value = shift = 0;
  }
  const pixels = new Uint8Array(width * height);
  let place = 0;
  counts.forEach((count, number) => {
    if (number % 2) for (let at = place; at < place + count; at += 1) pixels[(at % height) * width + Math.floor(at / height)] = 1;
    place += count;
  });
  return pixels;
}

// One byte a pixel, row by row, to base64 of packed run lengths; "" when nothing is marked.
export function packMask(pixels, width, height) {
  const counts = [];
  let now = 0, run = 0, any = false;
  for (let x = 0; x < width; x += 1) {
    for (let y = 0; y < height; y += 1) {
      const bit = pixels[y * width + x];
      if (bit !== now) {
        counts.push(run);
        now = bit;
        run = 0;
        any = true;
      }
      run += 1;
    }
  }
  counts.push(run);
  if (!any) return "";
  let out = "";
  counts.forEach((count, place) => {
    let rest = place > 2 ? count - counts[place - 2] : count;
    for (;;) {
      const bits = rest & 31;
      rest >>= 5;
      const more = bits & 16 ? rest !== -1 : rest !== 0;
      out += String.fromCharCode((more ? bits | 32 : bits) + 48);
      if (!more) break;
    }
  });
  return btoa(out);
}

// Left, top, right, bottom of what is marked.
export function boxOfMask(pixels, width, height) {
  let left = width, top = height, right = 0, bottom = 0;
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      if (!pixels[y * width + x]) continue;
      left = Math.min(left, x);
      right = Math.max(right, x + 1);
      top = Math.min(top, y);
      bottom = Math.max(bottom, y + 1);
    }
  }
  return [left, top, right, bottom];
}
