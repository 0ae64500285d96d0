// Pixels painted over a picture: with a pointer, or with a cursor that arrows move and Space sets down.
import { clamp, el } from "./dom.js";
import { boxOfMask, packMask, unpackMask } from "./runs.js";

export class Brush {
  constructor(picture) {
    this.picture = picture;
    this.radius = 0;
    this.erases = false;
    this.stroke = null; // { object, pixels, from, erases }
    this.cursor = null;
    this.known = new Map();
  }

  size(width, height) {
    [this.width, this.height] = [width, height];
    this.picture.canvas.width = width;
    this.picture.canvas.height = height;
    this.radius = Math.max(1, Math.round(Math.max(width, height) / 40));
    this.stroke = this.cursor = null;
    this.known.clear();
  }

  controls() {
    const { picture } = this;
    const most = Math.max(4, Math.round(Math.max(this.width || 1, this.height || 1) / 6));
    const size = el("input", { type: "range", id: "brush-size", min: "1", max: String(most), value: String(this.radius), oninput: (e) => { this.radius = Number(e.target.value); this.ring(); } });
    return [
      el("button", { type: "button", class: "button small", id: "erase", "aria-pressed": String(this.erases), onclick: () => { this.erases = !this.erases; picture.toolbar(); } }, "Erase"),
      el("label", { class: "brush-size", for: "brush-size" }, "Size", size),
    ];
  }

  down(x, y, erases) {
    const { host } = this.picture;
    let object = host.answer.objects[host.selected];
    if (!object || object.label !== host.label || !("mask" in object)) object = host.answer.objects.find((one) => one.label === host.label && "mask" in one);
    this.stroke = { erases: erases || this.erases, from: [x, y] };
    if (!object) {
      if (this.stroke.erases) { this.stroke = null; return; }
      if (!host.label) { host.said("Choose a class first."); this.stroke = null; return; }
      object = { label: host.label, mask: "" };
      host.answer.objects.push(object);
    }
    this.stroke.object = object;
    this.stroke.pixels = Uint8Array.from(this.pixelsOf(object));
    host.select(host.answer.objects.indexOf(object));
    this.paint(x, y);
  }

  move(x, y) {
    if (this.stroke) this.paint(x, y);
  }

  up() {
    const { stroke, picture } = this;
    this.stroke = null;
    if (!stroke) return;
    const { object, pixels } = stroke;
    object.mask = packMask(pixels, this.width, this.height);
    const { objects } = picture.host.answer;
    if (object.mask) object.box = boxOfMask(pixels, this.width, this.height);
    else { objects.splice(objects.indexOf(object), 1); picture.host.select(-1); }
    picture.host.committed();
    picture.draw();
  }

  stop() {
    this.stroke = null;
    this.cursor = null;
    this.ring();
  }

  // Arrows move the cursor; Space sets the brush down and lifts it; both are the keyboard's way of painting.
  keyboard() {
    this.cursor ??= [this.width / 2, this.height / 2];
    this.picture.host.said("Arrows move the brush; Space sets it down and lifts it.");
    this.ring();
  }

  key(e) {
    if (e.key === " " && e.target.id === "stage") {
      this.keyboard();
      if (this.stroke) { this.up(); this.picture.host.said("The brush is lifted."); } else { this.down(...this.cursor, false); if (this.stroke) this.picture.host.said("The brush is down."); }
      return true;
    }
    const step = e.altKey ? 1 : Math.max(1, Math.round(this.radius / 2));
    const by = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] }[e.key];
    if (!by || !this.cursor) return false;
    this.cursor = [clamp(this.cursor[0] + by[0], 0, this.width), clamp(this.cursor[1] + by[1], 0, this.height)];
    this.move(...this.cursor);
    this.ring();
    return true;
  }

  hover(x, y) {
    this.cursor = [x, y];
    this.ring();
  }

  paint(x, y) {
    const { pixels, from, erases } = this.stroke;
    const bit = erases ? 0 : 1, { radius, width, height } = this;
    const steps = Math.max(1, Math.ceil(Math.hypot(x - from[0], y - from[1]) / Math.max(radius / 2, 1)));
    for (let step = 1; step <= steps; step += 1) {
      const cx = from[0] + ((x - from[0]) * step) / steps, cy = from[1] + ((y - from[1]) * step) / steps;
      for (let py = Math.max(0, Math.floor(cy - radius)); py < Math.min(height, cy + radius); py += 1) {
        for (let px = Math.max(0, Math.floor(cx - radius)); px < Math.min(width, cx + radius); px += 1) {
          if (Math.hypot(px + 0.5 - cx, py + 0.5 - cy) <= radius) pixels[py * width + px] = bit;
        }
      }
    }
    this.stroke.from = [x, y];
    this.draw();
  }

  pixelsOf(object) {
    if (this.stroke?.object === object && this.stroke.pixels) return this.stroke.pixels;
    if (!object.mask) return new Uint8Array(this.width * this.height);
    if (!this.known.has(object.mask)) {
      if (this.known.size > 30) this.known.clear();
      this.known.set(object.mask, unpackMask(object.mask, this.width, this.height));
    }
    return this.known.get(object.mask);
  }

  draw() {
    if (!this.width) return;
    const painted = this.picture.host.answer.objects.filter((one) => "mask" in one);
    const context = this.picture.canvas.getContext("2d");
    context.clearRect(0, 0, this.width, this.height);
    if (painted.length) {
      const sheet = context.createImageData(this.width, this.height);
      for (const object of painted) {
        const colour = this.picture.host.colourOf(object.label);
        const [r, g, b] = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
        const strong = object === this.picture.host.answer.objects[this.picture.host.selected] ? 150 : 105;
        this.pixelsOf(object).forEach((bit, at) => { if (bit) sheet.data.set([r, g, b, strong], 4 * at); });
      }
      context.putImageData(sheet, 0, 0);
    }
    this.ring();
  }

  // Where the brush is.
  ring() {
    const { over, tool, readonly } = this.picture;
    over.querySelector(".brush")?.remove();
    if (tool !== "MASK" || readonly || !this.cursor) return;
    const made = document.createElementNS("http://www.w3.org/2000/svg", "circle");
    for (const [name, value] of Object.entries({ cx: this.cursor[0], cy: this.cursor[1], r: this.radius, class: "brush" })) made.setAttribute(name, value);
    over.append(made);
  }
}
