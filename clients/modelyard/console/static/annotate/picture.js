// A picture with what is marked in it: boxes, outlines, pixels, points, by pointer (mouse, pen, finger) and by keyboard.
import { clamp, el, fill, snap, svg } from "./dom.js";
import { Brush } from "./brush.js";

const HANDLES = { nw: [0, 1], n: [1], ne: [1, 2], e: [2], se: [2, 3], s: [3], sw: [0, 3], w: [0] };
const SMALLEST = 3;
export const TOOLS = { BOX: "Box", POLYGON: "Outline", MASK: "Brush", KEYPOINTS: "Points" };

export class Picture {
  // host: { answer, selected, label, colourOf(label), changed(), committed(), said(text), select(at), keypoints }
  constructor(room, host, shapes, readonly) {
    this.host = host;
    this.readonly = readonly;
    this.tools = Object.keys(TOOLS).filter((name) => shapes.includes(name));
    this.tool = this.tools[0] ?? "";
    this.zoom = 1;
    this.drawing = null; // points of an outline that is being drawn, or the corner of a box
    this.drag = null;
    this.image = el("img", { alt: "The example", draggable: "false" });
    this.canvas = el("canvas", { "aria-hidden": "true" });
    this.over = svg("svg", { "aria-hidden": "true", class: "marks" });
    this.sheet = el("div", { class: "sheet" }, this.image, this.canvas, this.over);
    this.view = el("div", {
      class: "view", tabindex: "0", role: "application", id: "stage",
      "aria-label": "Drawing area. Arrows move what is selected, Shift and arrows change its size, question mark shows all keys.",
    }, this.sheet);
    this.bar = el("div", { class: "toolbar", role: "toolbar", "aria-label": "Tools" });
    room.replaceChildren(this.bar, this.view);
    this.brush = new Brush(this);
    this.sheet.addEventListener("pointerdown", (e) => this.down(e));
    this.sheet.addEventListener("pointermove", (e) => this.move(e));
    for (const name of ["pointerup", "pointercancel"]) this.sheet.addEventListener(name, (e) => this.up(e));
    this.sheet.addEventListener("dblclick", () => this.finish());
    this.sheet.addEventListener("contextmenu", (e) => { if (this.tool === "MASK") e.preventDefault(); });
  }

  async show(task, address) {
    this.drawing = this.drag = null;
    this.image.src = address;
    this.image.alt = `The example ${task.example.path || task.example.example_id}`;
    try { await this.image.decode(); } catch { this.host.said("The picture could not be read; skip it with a reason."); }
    this.width = Number(task.width) || this.image.naturalWidth || 1;
    this.height = Number(task.height) || this.image.naturalHeight || 1;
    this.over.setAttribute("viewBox", `0 0 ${this.width} ${this.height}`);
    this.brush.size(this.width, this.height);
    this.sheet.classList.toggle("tiny", Math.max(this.width, this.height) <= 96);
    this.fit();
    this.draw();
  }

  fit(zoom = 1) {
    this.zoom = clamp(zoom, 1, 8);
    const most = Math.max(innerHeight * 0.66, 260);
    const scale = Math.min(this.view.clientWidth / this.width, most / this.height);
    this.sheet.style.width = `${Math.max(scale * this.zoom * this.width, 40)}px`;
    this.sheet.style.aspectRatio = `${this.width}/${this.height}`;
    this.sheet.classList.toggle("zoomed", this.zoom > 1);
  }

  toolbar() {
    const choose = (name) => () => { this.tool = name; this.drawing = null; this.toolbar(); this.draw(); };
    const tools = this.tools.length > 1 || this.tools[0] === "MASK" ? this.tools : [];
    const one = (id, words, pressed, act) => el("button", { type: "button", class: "button small", id, "aria-pressed": pressed, onclick: act }, words);
    fill(this.bar,
      this.readonly ? [] : tools.map((name) => one(`tool-${name}`, TOOLS[name], String(this.tool === name), choose(name))),
      !this.readonly && this.tool === "MASK" ? this.brush.controls() : [],
      this.zoom > 1 || this.hand ? one("tool-hand", "Move the view", String(Boolean(this.hand)), () => { this.hand = !this.hand; this.sheet.classList.toggle("hand", this.hand); this.toolbar(); }) : null,
      one("zoom-out", el("span", {}, "−", el("span", { class: "unseen" }, " Zoom out")), null, () => this.zoomTo(this.zoom / 1.5)),
      one("zoom-in", el("span", {}, "+", el("span", { class: "unseen" }, " Zoom in")), null, () => this.zoomTo(this.zoom * 1.5)),
      !this.readonly && this.drawing?.points ? one("finish", "Close the outline", null, () => this.finish()) : null);
  }

  zoomTo(zoom) {
    this.fit(zoom);
    if (this.zoom === 1) { this.hand = false; this.sheet.classList.remove("hand"); }
    this.toolbar();
    this.draw();
  }

  at(e) {
    const box = this.sheet.getBoundingClientRect();
    const x = ((e.clientX - box.left) / box.width) * this.width, y = ((e.clientY - box.top) / box.height) * this.height;
    return [clamp(snap(x), 0, this.width), clamp(snap(y), 0, this.height)];
  }

  // Picture pixels in one of the screen.
  get unit() { return this.width / Math.max(this.sheet.getBoundingClientRect().width, 1); }

  down(e) {
    if (this.readonly || this.hand || (e.button && this.tool !== "MASK")) return;
    e.preventDefault();
    this.view.focus({ preventScroll: true });
    const [x, y] = this.at(e);
    const { objects } = this.host.answer;
    const target = e.target.dataset ?? {};
    this.sheet.setPointerCapture(e.pointerId);
    if (this.tool === "MASK") { this.brush.down(x, y, e.button === 2); this.drag = { brush: true }; return; }
    if (this.drawing?.points) {
      const [fx, fy] = this.drawing.points;
      if (this.drawing.points.length >= 6 && Math.hypot(x - fx, y - fy) < 10 * this.unit) this.finish();
      else { this.drawing.points.push(x, y); this.draw(); }
      return;
    }
    if (target.handle || target.vertex || target.point) {
      this.drag = { ...target, from: [x, y], object: objects[this.host.selected], before: JSON.stringify(objects[this.host.selected]) };
      return;
    }
    if (this.tool === "KEYPOINTS" && this.placePoint(x, y)) return;
    if (target.object !== undefined && !(this.tool === "POLYGON" && e.shiftKey)) {
      this.host.select(Number(target.object));
      const object = objects[this.host.selected];
      if (!object.mask) this.drag = { whole: true, from: [x, y], object, before: JSON.stringify(object) };
      return;
    }
    if (this.tool === "POLYGON") { this.drawing = { points: [x, y] }; this.toolbar(); this.draw(); return; }
    if (this.tool === "BOX") { this.host.select(-1); this.drawing = { box: [x, y, x, y] }; this.drag = { box: true }; }
  }

  move(e) {
    const [x, y] = this.at(e);
    if (this.tool === "MASK") this.brush.hover(x, y);
    if (!this.drag) return;
    if (this.drag.brush) { this.brush.move(x, y); return; }
    if (this.drag.box) { this.drawing.box.splice(2, 2, x, y); this.draw(); return; }
    const { object, from, before } = this.drag;
    Object.assign(object, JSON.parse(before));
    if (this.drag.handle) {
      for (const side of HANDLES[this.drag.handle]) object.box[side] = side % 2 ? y : x;
    } else if (this.drag.vertex) {
      const [ring, place] = this.drag.vertex.split(":").map(Number);
      object.polygons[ring].points.splice(2 * place, 2, x, y);
    } else if (this.drag.point) {
      object.keypoints.splice(3 * Number(this.drag.point), 2, x, y);
    } else {
      this.shift(object, x - from[0], y - from[1]);
    }
    this.host.changed();
    this.draw();
  }

  up() {
    const drag = this.drag;
    this.drag = null;
    if (!drag) return;
    if (drag.brush) { this.brush.up(); return; }
    if (drag.box) {
      const [left, top, right, bottom] = ordered(this.drawing.box);
      this.drawing = null;
      if (Math.min(right - left, bottom - top) >= Math.min(SMALLEST * this.unit, SMALLEST)) this.add({ box: [left, top, right, bottom] });
      else this.draw();
      return;
    }
    if (JSON.stringify(drag.object) !== drag.before) { if (drag.object.box?.length && !drag.object.polygons) drag.object.box = ordered(drag.object.box); this.host.committed(); }
  }

  add(object) {
    if (!this.host.label) { this.host.said("Choose a class first."); return; }
    this.host.answer.objects.push({ label: this.host.label, ...object });
    this.host.select(this.host.answer.objects.length - 1);
    this.host.committed();
    this.view.focus({ preventScroll: true });
  }

  // What `+` makes: something of the tool in the middle, to be moved with arrows.
  addInTheMiddle() {
    const [w, h] = [this.width / 4, this.height / 4];
    const box = [snap(1.5 * w), snap(1.5 * h), snap(2.5 * w), snap(2.5 * h)];
    if (this.tool === "BOX") this.add({ box });
    else if (this.tool === "POLYGON") this.add({ polygons: [{ points: [box[0], box[1], box[2], box[1], box[2], box[3], box[0], box[3]] }] });
    else if (this.tool === "KEYPOINTS") this.add({ keypoints: this.host.keypoints.flatMap((_, at) => [snap(1.5 * w + (w * (at % 4)) / 4), snap(1.5 * h + (h * Math.floor(at / 4)) / 4), 2]) });
    else if (this.tool === "MASK") this.brush.keyboard();
  }

  placePoint(x, y) {
    const names = this.host.keypoints;
    let object = this.host.answer.objects[this.host.selected];
    if (!object?.keypoints) {
      if (!this.host.label) { this.host.said("Choose a class first."); return true; }
      object = { label: this.host.label, keypoints: names.flatMap(() => [0, 0, 0]) };
      this.host.answer.objects.push(object);
      this.host.select(this.host.answer.objects.length - 1);
    }
    const next = names.findIndex((_, at) => !object.keypoints[3 * at + 2]);
    if (next < 0) return false;
    object.keypoints.splice(3 * next, 3, x, y, 2);
    this.host.committed();
    const after = names.find((_, at) => !object.keypoints[3 * at + 2]);
    this.host.said(after ? `${names[next]} is placed; next: ${after}` : `${names[next]} is placed; all points are`);
    return true;
  }

  finish() {
    if (!this.drawing?.points) return false;
    const { points } = this.drawing;
    while (points.length >= 4 && Math.hypot(points.at(-2) - points.at(-4), points.at(-1) - points.at(-3)) < this.unit) points.splice(-2);
    this.drawing = null;
    this.toolbar();
    if (points.length >= 6) this.add({ polygons: [{ points }] });
    else { this.host.said("An outline has at least three points."); this.draw(); }
    return true;
  }

  cancel() {
    const was = Boolean(this.drawing);
    this.drawing = this.drag = null;
    this.brush.stop();
    this.toolbar();
    this.draw();
    return was;
  }

  // A key that the tools know; true when it was one.
  key(e) {
    if (this.tool === "MASK" && this.brush.key(e)) return true;
    const step = e.altKey ? 1 : Math.max(1, Math.round(Math.max(this.width, this.height) / 100));
    const by = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] }[e.key];
    const object = this.host.answer.objects[this.host.selected];
    if (by && object && !object.mask) {
      if (e.shiftKey && object.box?.length && !object.polygons?.length && !object.keypoints?.length) {
        object.box[2] = clamp(object.box[2] + by[0], object.box[0] + 1, this.width);
        object.box[3] = clamp(object.box[3] + by[1], object.box[1] + 1, this.height);
      } else if (e.shiftKey) {
        this.scale(object, by);
      } else {
        this.shift(object, ...by);
      }
      this.host.committed("move");
      this.draw();
      return true;
    }
    if (e.key === "Enter" && this.drawing?.points) return this.finish();
    if (e.key === "Backspace" && this.drawing?.points) {
      this.drawing.points.splice(-2);
      if (!this.drawing.points.length) this.drawing = null;
      this.draw();
      return true;
    }
    return false;
  }

  shift(object, dx, dy) {
    const xs = [], ys = [];
    each(object, (x, y) => { xs.push(x); ys.push(y); return [x, y]; });
    const mx = clamp(dx, -Math.min(...xs), this.width - Math.max(...xs)), my = clamp(dy, -Math.min(...ys), this.height - Math.max(...ys));
    each(object, (x, y) => [snap(x + mx), snap(y + my)]);
  }

  scale(object, [dx, dy]) {
    const xs = [], ys = [];
    each(object, (x, y) => { xs.push(x); ys.push(y); return [x, y]; });
    const [left, top, right, bottom] = [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)];
    const fx = Math.max(right - left + dx, 1) / Math.max(right - left, 1), fy = Math.max(bottom - top + dy, 1) / Math.max(bottom - top, 1);
    each(object, (x, y) => [clamp(snap(left + (x - left) * fx), 0, this.width), clamp(snap(top + (y - top) * fy), 0, this.height)]);
  }

  draw() {
    if (!this.width) return;
    const { answer, selected } = this.host;
    const shapes = [];
    answer.objects.forEach((object, at) => {
      const colour = this.host.colourOf(object.label);
      const chosen = at === selected ? " chosen" : "";
      for (const ring of object.polygons ?? []) shapes.push(svg("polygon", { points: pairs(ring.points), stroke: colour, fill: colour, class: `mark${chosen}`, "data-object": at }));
      if (object.box?.length && !object.polygons?.length && !object.mask && !object.keypoints?.length) {
        const [left, top, right, bottom] = ordered(object.box);
        shapes.push(svg("rect", { x: left, y: top, width: right - left, height: bottom - top, stroke: colour, fill: colour, class: `mark${chosen}`, "data-object": at }));
      }
      this.host.keypoints.forEach((name, place) => {
        const [x, y, seen] = object.keypoints?.slice(3 * place, 3 * place + 3) ?? [];
        if (seen) shapes.push(svg("circle", { cx: x, cy: y, r: 6 * this.unit, fill: colour, class: `point${chosen}${seen === 1 ? " hidden" : ""}`, "data-object": at, "data-point": at === selected ? place : null }, svg("title", {}, name)));
      });
    });
    if (!this.readonly) shapes.push(...this.handles());
    if (this.drawing?.box) { const [l, t, r, b] = ordered(this.drawing.box); shapes.push(svg("rect", { x: l, y: t, width: r - l, height: b - t, class: "mark fresh", stroke: this.host.colourOf(this.host.label) })); }
    if (this.drawing?.points) {
      shapes.push(svg("polyline", { points: pairs(this.drawing.points), class: "mark fresh", stroke: this.host.colourOf(this.host.label), fill: "none" }));
      shapes.push(svg("circle", { cx: this.drawing.points[0], cy: this.drawing.points[1], r: 6 * this.unit, class: "handle" }));
    }
    this.over.replaceChildren(...shapes);
    this.brush.draw();
  }

  handles() {
    const object = this.host.answer.objects[this.host.selected];
    if (!object || this.tool === "MASK") return [];
    const radius = 6 * this.unit;
    if (object.polygons?.length) {
      return object.polygons.flatMap((ring, number) => Array.from({ length: ring.points.length / 2 }, (_, place) =>
        svg("circle", { cx: ring.points[2 * place], cy: ring.points[2 * place + 1], r: radius, class: "handle", "data-vertex": `${number}:${place}` })));
    }
    if (object.mask || object.keypoints?.length || !object.box?.length) return [];
    const [left, top, right, bottom] = object.box, [mx, my] = [(left + right) / 2, (top + bottom) / 2];
    const places = { nw: [left, top], n: [mx, top], ne: [right, top], e: [right, my], se: [right, bottom], s: [mx, bottom], sw: [left, bottom], w: [left, my] };
    return Object.entries(places).map(([name, [x, y]]) => svg("circle", { cx: x, cy: y, r: radius, class: `handle ${name}`, "data-handle": name }));
  }
}

const pairs = (points) => points.map((value, at) => (at % 2 ? `${value} ` : `${value},`)).join("");
const ordered = ([a, b, c, d]) => [Math.min(a, c), Math.min(b, d), Math.max(a, c), Math.max(b, d)];

// Every corner of an object; what `change` answers takes its place.
function each(object, change) {
  const pointed = object.polygons?.length || object.keypoints?.length;
  if (object.box?.length && !pointed) object.box = [...change(object.box[0], object.box[1]), ...change(object.box[2], object.box[3])];
  for (const ring of object.polygons ?? []) for (let at = 0; at < ring.points.length; at += 2) ring.points.splice(at, 2, ...change(ring.points[at], ring.points[at + 1]));
  for (let at = 0; at < (object.keypoints?.length ?? 0); at += 3) if (object.keypoints[at + 2]) object.keypoints.splice(at, 2, ...change(object.keypoints[at], object.keypoints[at + 1]));
  if (pointed) delete object.box; // the service finds it
}
