// The table that annotators and reviewers work at: one example, what is said of it, undo and redo, keys.
import { ask, el } from "./dom.js";
import { Panel } from "./panel.js";
import { Picture } from "./picture.js";
import { Series } from "./series.js";

const FRESH = () => ({ classes: [], objects: [], ranges: [], text: "", attributes: {} });
const DRAWN = ["BOX", "POLYGON", "MASK", "KEYPOINTS"];
const MOST_UNDONE = 200;

// An answer as the service gives it (numbers may be texts there), made whole.
export function answerOf(said) {
  const answer = { ...FRESH(), ...structuredClone(said ?? {}) };
  for (const one of answer.objects) { one.keypoints = one.keypoints?.map(Number); one.box = one.box?.map(Number); }
  for (const one of answer.objects) for (const name of ["keypoints", "box", "polygons"]) if (!one[name]?.length) delete one[name];
  for (const one of answer.ranges) { one.start = Number(one.start ?? 0); one.end = Number(one.end ?? 0); }
  return answer;
}

// What is handed in.
export function said(answer) {
  const kept = structuredClone(answer);
  kept.objects = kept.objects.filter((one) => one.box || one.polygons || one.mask || one.keypoints);
  for (const one of kept.objects) if (one.polygons || one.keypoints) delete one.box;
  return kept;
}

export class Desk {
  // room: where to draw. commands: [{ key, words, act, shown() }], after the desk's own. changed(answer): after every change.
  constructor(room, schema, { readonly = false, commands = [], changed = () => {}, answered = () => {} }) {
    Object.assign(this, { schema, readonly, answered });
    this.tell = changed;
    this.answer = FRESH();
    this.selected = -1;
    this.label = schema.shapes.some((one) => [...DRAWN, "RANGE"].includes(one)) ? schema.classes[0]?.name ?? "" : "";
    this.keypoints = schema.keypoints;
    this.past = [];
    this.future = [];
    this.live = el("p", { class: "unseen", role: "status", "aria-live": "polite", id: "said" });
    this.stageRoom = el("div", { class: "stage" });
    this.panel = new Panel(this);
    this.commands = [
      { key: "+", words: "add one in the middle, to be moved with the keyboard", act: () => this.stage.addInTheMiddle(), shown: () => !this.readonly && this.draws },
      { key: "]", words: "select the next", act: () => this.step(1), shown: () => this.draws },
      { key: "[", words: "select the one before", act: () => this.step(-1), shown: () => this.draws },
      { key: "Delete", words: "remove what is selected (Backspace too)", act: () => this.remove(this.selected), shown: () => !this.readonly && this.draws },
      { key: ">", words: "zoom in", act: () => this.stage.zoomTo?.(this.stage.zoom * 1.5), shown: () => this.draws },
      { key: "<", words: "zoom out", act: () => this.stage.zoomTo?.(this.stage.zoom / 1.5), shown: () => this.draws },
      { key: "Ctrl+Z", words: "undo", act: () => this.undo() },
      { key: "Ctrl+Y", words: "redo", act: () => this.redo() },
      { key: "?", words: "this overview", act: () => this.overview() },
      ...commands,
    ];
    room.replaceChildren(this.stageRoom, this.live);
    this.listener = (e) => this.key(e);
    document.addEventListener("keydown", this.listener, true);
    addEventListener("resize", () => { this.stage?.fit?.(this.stage.zoom); this.stage?.draw?.(); });
  }

  get draws() { return this.schema.shapes.some((one) => [...DRAWN, "RANGE"].includes(one)); }
  get items() { return this.stage?.marks ? this.answer.ranges : this.answer.objects; }

  colourOf(label) { return this.schema.classes.find((one) => one.name === label)?.colour || "#1f5fd0"; }

  async show(task, address, answer) {
    const kind = Number(task.width) ? "picture" : "series";
    if (this.kind !== kind) {
      this.kind = kind;
      this.stage = new (kind === "picture" ? Picture : Series)(this.stageRoom, this, this.schema.shapes, this.readonly);
    }
    this.task = task;
    this.answer = answerOf(answer);
    this.selected = -1;
    this.past = [];
    this.future = [];
    this.kept = JSON.stringify(this.answer);
    this.stage.toolbar();
    await this.stage.show(task, address);
    this.draw();
  }

  // Takes another answer, as one step that can be undone.
  take(answer) {
    this.answer = answerOf(answer);
    this.selected = -1;
    this.committed();
  }

  setReadonly(on) {
    this.readonly = on;
    if (this.stage) this.stage.readonly = on || (this.kind === "series" && !this.stage.marks);
    this.stage?.toolbar();
    this.draw();
  }

  changed() { this.tell(this.answer); }

  committed(kind = "") {
    const now = JSON.stringify(this.answer);
    if (now !== this.kept) {
      // Holding an arrow down is one step back.
      if (!(kind && kind === this.lastKind && Date.now() - this.lastTime < 800)) this.past.push(this.kept);
      if (this.past.length > MOST_UNDONE) this.past.shift();
      this.future = [];
      this.kept = now;
      [this.lastKind, this.lastTime] = [kind, Date.now()];
      this.tell(this.answer);
    }
    this.draw();
  }

  undo() { this.travel(this.past, this.future, "Undone."); }
  redo() { this.travel(this.future, this.past, "Done again."); }

  travel(from, to, words) {
    if (!from.length) { this.said("There is nothing further."); return; }
    to.push(this.kept);
    this.kept = from.pop();
    this.answer = JSON.parse(this.kept);
    this.selected = Math.min(this.selected, this.items.length - 1);
    this.lastKind = "";
    this.tell(this.answer);
    this.draw();
    this.said(words);
  }

  draw() {
    this.stage?.draw();
    this.panel.draw();
  }

  said(words) { this.live.textContent = words; }

  select(at) {
    this.selected = at >= 0 && at < this.items.length ? at : -1;
    const one = this.items[this.selected];
    if (one) { this.label = one.label; this.said(`${this.selected + 1} of ${this.items.length}, ${one.label}`); }
    this.draw();
  }

  step(by) {
    if (!this.items.length) { this.said("Nothing is marked."); return; }
    this.select((this.selected + by + this.items.length + (this.selected < 0 && by < 0 ? 1 : 0)) % this.items.length);
  }

  remove(at) {
    if (at < 0 || at >= this.items.length) { this.said("Nothing is selected."); return; }
    const [gone] = this.items.splice(at, 1);
    this.selected = Math.min(at, this.items.length - 1);
    this.said(`${gone.label} is removed`);
    this.committed();
  }

  choose(name) {
    if (this.readonly) return;
    const { shapes } = this.schema;
    if (this.draws) {
      this.label = name;
      const one = this.items[this.selected];
      if (one && !one.mask) one.label = name;
      else this.selected = one?.label === name ? this.selected : -1;
    }
    if (shapes.includes("CLASS")) this.answer.classes = [name];
    if (shapes.includes("CLASSES")) this.answer.classes = this.answer.classes.includes(name) ? this.answer.classes.filter((one) => one !== name) : [...this.answer.classes, name];
    this.said(name);
    this.committed();
    if (shapes.length === 1 && shapes[0] === "CLASS") this.answered();
  }

  key(e) {
    if (document.querySelector("dialog[open]")) return;
    const taken = () => { e.preventDefault(); e.stopPropagation(); };
    const typing = e.target.closest("input:not([type=checkbox]):not([type=range]), textarea, select");
    if (typing) {
      if (e.key === "Escape") { typing.blur(); this.stage?.view.focus(); taken(); }
      else if (e.key === "Enter" && e.ctrlKey) { typing.blur(); this.run("Enter"); taken(); }
      e.stopPropagation();
      return;
    }
    if (e.target.type === "range") return;
    if ((e.key === "Enter" || e.key === " ") && e.target.closest("button, a, summary, audio, [type=checkbox]")) return;
    const held = e.ctrlKey || e.metaKey;
    if (held && e.key.toLowerCase() === "z") { taken(); if (e.shiftKey) this.redo(); else this.undo(); return; }
    if (held && e.key.toLowerCase() === "y") { taken(); this.redo(); return; }
    if (held) return;
    if (!this.readonly && this.stage?.key(e)) { taken(); return; }
    if (e.key === "Escape") { taken(); if (!this.stage?.cancel()) this.select(-1); return; }
    const found = this.schema.classes.find((one) => one.key && one.key === e.key);
    if (found && !e.altKey) { taken(); this.choose(found.name); return; }
    if (this.run(e.key === "Backspace" && this.draws && !this.readonly ? "Delete" : e.key === "=" ? "+" : e.key)) taken();
  }

  // A command by its key. A letter that a class has is the command's with Shift.
  run(key) {
    const one = this.commands.find((each) => (each.shown?.() ?? true) && (each.key === key || (each.key.length === 1 && each.key.toUpperCase() === key)));
    if (!one || one.act === undefined) return false;
    one.act();
    return true;
  }

  // The key as it is now: with Shift where a class has the letter.
  keyOf(command) {
    const taken = this.schema.classes.some((one) => one.key && one.key === command.key);
    return taken ? `Shift+${command.key.toUpperCase()}` : command.key.length === 1 ? command.key.toUpperCase() : command.key;
  }

  overview() {
    const rows = [
      ...this.schema.classes.filter((one) => one.key).slice(0, 40).map((one) => [one.key, one.name]),
      ...(this.draws && !this.readonly ? [["Arrows", "move what is selected; with Shift its size, with Alt by one step"], ["Escape", "leave off, select nothing; out of a field"]] : []),
      ...(this.schema.shapes.includes("POLYGON") && !this.readonly ? [["Click", "a corner of an outline; Enter, double click or the first corner closes it; Backspace takes one back"]] : []),
      ...(this.schema.shapes.includes("MASK") && !this.readonly ? [["Space", "with the brush: set it down at the cursor, and lift it"]] : []),
      ...this.commands.filter((one) => one.shown?.() ?? true).map((one) => [this.keyOf(one), one.words]),
    ];
    ask({ title: "Keys", body: [el("table", { class: "keys" }, el("tbody", {}, rows.map(([key, words]) => el("tr", {}, el("th", { scope: "row" }, el("kbd", {}, key)), el("td", {}, words)))))] });
  }
}
