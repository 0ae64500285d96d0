// A recording or a sound with ranges of it (or the row of a table, to be read), by pointer and by keyboard. Places are steps (samples), 0 is the first.
import { clamp, el, fill, svg } from "./dom.js";

const WIDTH = 1000, HEIGHT = 110, PIXELS = 1200;

export class Series {
  // host: as of Picture
  constructor(room, host, shapes, readonly) {
    this.host = host;
    this.marks = shapes.includes("RANGE");
    this.readonly = readonly || !this.marks;
    this.drag = null;
    this.view = el("div", {
      class: "view traces", tabindex: "0", role: "application", id: "stage",
      "aria-label": "Recording. Arrows move the range that is selected, Shift and arrows change its end, question mark shows all keys.",
    });
    this.bar = el("div", { class: "toolbar" });
    room.replaceChildren(this.bar, this.view);
    this.view.addEventListener("pointerdown", (e) => this.down(e));
    this.view.addEventListener("pointermove", (e) => this.move(e));
    for (const name of ["pointerup", "pointercancel"]) this.view.addEventListener(name, () => this.up());
  }

  async show(task, address) {
    this.drag = null;
    const answer = await fetch(address);
    const bytes = await answer.arrayBuffer();
    const kind = answer.headers.get("content-type") ?? "";
    this.sound = kind.startsWith("audio/");
    const found = this.sound ? await heard(bytes) : JSON.parse(new TextDecoder().decode(bytes));
    if (!Array.isArray(found.values)) {
      this.charts = [];
      this.view.setAttribute("aria-label", "Row of a table: its columns and their values.");
      fill(this.view, cells(found));
      return;
    }
    const length = Math.max(...found.values.map((one) => one.length), 1);
    this.steps = Number(task.steps) || length;
    this.charts = found.values.map((values, at) => this.chart(found.channels[at] || `channel ${at + 1}`, values));
    const player = this.sound ? el("audio", { controls: true, src: address }) : null;
    fill(this.view, this.charts.map((one) => one.figure), player);
    this.draw();
  }

  toolbar() { this.bar.replaceChildren(); }

  chart(name, values) {
    const size = Math.min(values.length, PIXELS), low = [], high = [];
    for (let at = 0; at < size; at += 1) {
      let least = Infinity, most = -Infinity;
      for (let step = Math.floor((at * values.length) / size); step < Math.ceil(((at + 1) * values.length) / size); step += 1) {
        const value = values[step];
        if (value === null) continue;
        least = Math.min(least, value);
        most = Math.max(most, value);
      }
      low.push(least);
      high.push(most);
    }
    const bottom = Math.min(...low.filter(Number.isFinite)), top = Math.max(...high.filter(Number.isFinite));
    const y = (value) => (HEIGHT - 8 - ((value - bottom) / (top - bottom || 1)) * (HEIGHT - 16)).toFixed(1);
    let path = "", open = false;
    for (let at = 0; at < size; at += 1) {
      if (!Number.isFinite(low[at])) { open = false; continue; }
      const x = ((WIDTH * (at + 0.5)) / size).toFixed(1);
      path += `${open ? "L" : "M"}${x} ${y(low[at])}` + (high[at] === low[at] ? "" : `L${x} ${y(high[at])}`);
      open = true;
    }
    const room = svg("g");
    const drawn = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", class: "trace-sheet", "aria-hidden": "true" }, room, svg("path", { d: path || "M0 0", class: "trace" }));
    return { room, figure: el("figure", {}, el("figcaption", {}, Number.isFinite(bottom) ? `${name}, ${bottom.toPrecision(4)} to ${top.toPrecision(4)}` : `${name}, no values`), drawn) };
  }

  at(e) {
    const box = this.view.querySelector("svg").getBoundingClientRect();
    return clamp(Math.round(((e.clientX - box.left) / box.width) * this.steps), 0, this.steps);
  }

  down(e) {
    if (this.readonly || e.button || !e.target.closest("svg")) return;
    e.preventDefault();
    this.view.focus({ preventScroll: true });
    this.view.setPointerCapture(e.pointerId);
    const at = this.at(e), { ranges } = this.host.answer, { range, end } = e.target.dataset;
    if (range !== undefined) {
      this.host.select(Number(range));
      const one = ranges[this.host.selected];
      this.drag = { one, end, from: at, before: { ...one } };
      return;
    }
    if (!this.host.label) { this.host.said("Choose a class first."); return; }
    const one = { start: at, end: at, label: this.host.label };
    this.drag = { one, fresh: true, from: at };
  }

  move(e) {
    if (!this.drag) return;
    const at = this.at(e), { one, fresh, end, from, before } = this.drag;
    if (fresh) { one.start = Math.min(from, at); one.end = Math.max(from, at); this.draw(one); return; }
    if (end === "start") one.start = clamp(at, 0, one.end - 1);
    else if (end === "end") one.end = clamp(at, one.start + 1, this.steps);
    else this.shift(Object.assign(one, before), at - from);
    this.host.changed();
    this.draw();
  }

  up() {
    const { drag } = this;
    this.drag = null;
    if (!drag) return;
    if (drag.fresh) {
      if (drag.one.end > drag.one.start) this.add(drag.one);
      else { this.host.select(-1); this.draw(); }
    } else if (JSON.stringify(drag.one) !== JSON.stringify(drag.before)) this.host.committed();
  }

  add(one) {
    this.host.answer.ranges.push(one);
    this.host.select(this.host.answer.ranges.length - 1);
    this.host.committed();
    this.draw();
  }

  addInTheMiddle() {
    if (this.readonly) return;
    if (!this.host.label) { this.host.said("Choose a class first."); return; }
    const start = Math.floor(this.steps * 0.45);
    this.add({ start, end: Math.max(start + 1, Math.ceil(this.steps * 0.55)), label: this.host.label });
    this.view.focus({ preventScroll: true });
  }

  shift(one, by) {
    const most = clamp(by, -one.start, this.steps - one.end);
    one.start += most;
    one.end += most;
  }

  key(e) {
    const one = this.host.answer.ranges[this.host.selected];
    const step = e.altKey ? 1 : Math.max(1, Math.round(this.steps / 200));
    const by = { ArrowLeft: -step, ArrowRight: step }[e.key];
    if (!by || !one || this.readonly) return false;
    if (e.shiftKey) one.end = clamp(one.end + by, one.start + 1, this.steps);
    else this.shift(one, by);
    this.host.committed("move");
    this.draw();
    return true;
  }

  cancel() {
    const was = Boolean(this.drag);
    this.drag = null;
    this.draw();
    return was;
  }

  draw(fresh = null) {
    if (!this.charts) return;
    const all = [...this.host.answer.ranges, ...(fresh ? [fresh] : [])];
    for (const { room } of this.charts) {
      room.replaceChildren(...all.flatMap((one, at) => {
        const x = (step) => (WIDTH * step) / this.steps, colour = this.host.colourOf(one.label);
        const chosen = at === this.host.selected;
        const mark = svg("rect", { x: x(one.start), y: 0, width: Math.max(x(one.end) - x(one.start), 1), height: HEIGHT, fill: colour, class: `range${chosen ? " chosen" : ""}`, "data-range": at });
        const ends = chosen && !this.readonly ? [["start", one.start], ["end", one.end]].map(([end, step]) => svg("rect", { x: x(step) - 6, y: 0, width: 12, height: HEIGHT, fill: colour, class: "range-end", "data-range": at, "data-end": end })) : [];
        return [mark, ...ends];
      }));
    }
  }
}

function cells(row) {
  const lines = Object.entries(row).map(([name, value]) => el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, value === null ? "–" : String(value))));
  return el("table", { class: "cells" }, el("tbody", {}, ...lines));
}

async function heard(bytes) {
  const decoded = await new OfflineAudioContext(1, 1, 44100).decodeAudioData(bytes);
  const names = decoded.numberOfChannels === 2 ? ["left", "right"] : ["sound"];
  return { channels: names, values: Array.from({ length: decoded.numberOfChannels }, (_, at) => decoded.getChannelData(at)) };
}
