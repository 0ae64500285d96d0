// An annotator's sitting: tasks are taken ahead of time, answered, skipped, looked at again. What is begun is kept by the browser.
import { answerOf, Desk, said } from "./desk.js";
import { ask, el, fill } from "./dom.js";
import { call, contentOf, drafts, giveBack } from "./server.js";

const AHEAD = 3;
const IDLE_S = 30;
const JUST_MS = 15000;
const REASONS = ["I cannot tell what it is", "The picture or recording is damaged", "The guidelines do not cover it", "It does not belong here"];

export class Labelling {
  constructor(room, { round, schema, lease_s: lease, answers, wanted, paused }) {
    Object.assign(this, { round, schema, answers, wanted, paused });
    this.queue = []; // tasks that are held; the first is on the table
    this.left = new Map(); // those that were handed in or skipped, and when
    this.done = []; // those of this sitting, the newest last, with their answers
    this.again = null; // a task of before, looked at again
    this.seconds = 0;
    const shown = el("div", { class: "desk" });
    this.head = el("div", { class: "desk-head" });
    this.note = el("div", { class: "desk-note" });
    this.foot = el("div", { class: "actions desk-foot" });
    const commands = [
      { key: "Enter", words: "hand in and go on", act: () => this.submit() },
      { key: "a", words: "take the model's word", act: () => this.takePreLabel(), shown: () => Boolean(this.task?.pre_label) },
      { key: "s", words: "skip or flag, with a reason", act: () => this.skip() },
      { key: "PageUp", words: "back to the task before", act: () => this.back() },
      { key: "PageDown", words: "on, without a change", act: () => this.onward() },
    ];
    this.desk = new Desk(shown, schema, { commands, changed: (answer) => this.changed(answer), answered: () => { if (this.quick) this.submit(); } });
    room.append(this.head, el("div", { class: "desk-split" }, el("div", {}, this.note, shown), el("div", { class: "desk-side" }, this.desk.panel.root, this.foot)));
    setInterval(() => this.renew(), Math.max(10, Math.min(60, lease / 3)) * 1000);
    addEventListener("pagehide", () => giveBack(this.queue.slice(1).map((one) => one.name).filter((name) => !drafts.get(name))));
    for (const name of ["pointermove", "keydown"]) addEventListener(name, () => this.active(), { passive: true });
    drafts.sweep();
  }

  get task() { return this.again?.task ?? this.queue[0]; }
  get quick() { return this.schema.shapes.length === 1 && this.schema.shapes[0] === "CLASS" && !this.schema.attributes.some((one) => one.required) && localStorage.getItem("annotate-quick") !== "no"; }

  async begin() {
    await this.fill();
    await this.show();
  }

  // Takes tasks up to AHEAD, and renews the hold on those that are here.
  async fill() {
    try {
      const found = await call("claim", { round: this.round, count: AHEAD });
      // One that was just handed in may still be in an answer that was on its way; the one on the table stays there even when
      // somebody else holds it now: an answer that comes late is taken all the same.
      const held = found.tasks.filter((one) => !(this.left.get(one.name) > Date.now() - JUST_MS));
      const kept = this.queue.filter((one, at) => at === 0 || held.some((each) => each.name === one.name));
      this.queue = [...kept, ...held.filter((one) => !kept.some((each) => each.name === one.name))];
      this.nothingLeft = found.nothing_left;
      for (const task of this.queue.slice(1)) fetch(contentOf(task)).catch(() => {}); // the browser keeps it
      return true;
    } catch (error) {
      this.trouble(error);
      return false;
    }
  }

  async renew() {
    if (this.queue.length && document.visibilityState === "visible") await this.fill();
  }

  active() {
    const now = Date.now() / 1000;
    this.seconds += Math.min(now - (this.last ?? now), IDLE_S);
    this.last = now;
  }

  async show() {
    const task = this.task;
    this.drawHead();
    if (!task) { this.nothing(); return; }
    this.desk.stageRoom.hidden = false;
    const draft = drafts.get(task.name);
    const before = this.again?.answer ?? task.earlier_answer ?? task.pre_label?.answer;
    [this.seconds, this.last] = [0, Date.now() / 1000];
    this.trouble(null);
    const notes = [];
    if (task.reject_reason) notes.push(el("p", { class: "told", role: "alert" }, el("strong", {}, "It came back: "), task.reject_reason));
    if (draft) notes.push(el("p", { class: "told" }, "What you had begun is here again. ", el("button", { type: "button", class: "button small", onclick: () => { drafts.drop(task.name); this.show(); } }, "Begin anew")));
    else if (!this.again && !task.earlier_answer && task.pre_label) notes.push(el("p", { class: "told" }, `${task.pre_label.model || "A model"} says this, ${Math.round(100 * (task.pre_label.confidence ?? 0))} % sure. Change it, or hand it in as it is.`));
    fill(this.note, notes);
    await this.desk.show(task, contentOf(task), draft ?? before);
    this.drawFoot();
    this.desk.said(`Task ${task.example.path || task.example.example_id}`);
    if (!document.activeElement || document.activeElement === document.body) this.desk.stage.view.focus({ preventScroll: true });
  }

  drawHead() {
    const share = this.wanted ? Math.min(this.answers / this.wanted, 1) : 0;
    const words = `${this.answers.toLocaleString("en")} of ${this.wanted.toLocaleString("en")} answers`;
    fill(this.head,
      el("div", { class: "bar", role: "progressbar", "aria-label": "Answers of the round", "aria-valuemin": "0", "aria-valuemax": "100", "aria-valuenow": String(Math.round(100 * share)) }, el("div", { class: "bar-fill", style: `width:${100 * share}%` })),
      el("p", { class: "small muted", id: "progress" }, `${words} · ${this.done.length} by you in this sitting`, this.again ? " · looking at one of before" : ""));
  }

  drawFoot() {
    const key = (name) => el("kbd", {}, this.desk.keyOf(this.desk.commands.find((one) => one.key === name)));
    const one = (id, words, name, act, kind = "") => el("button", { type: "button", class: `button ${kind}`, id, onclick: act }, words, " ", key(name));
    const quick = this.schema.shapes.length === 1 && this.schema.shapes[0] === "CLASS" ? el("label", { class: "switch small" }, this.quickBox(), " A class key hands in at once") : null;
    fill(this.foot,
      one("submit", this.again ? "Change" : "Hand in", "Enter", () => this.submit(), "primary"),
      this.task?.pre_label ? one("accept", "Take the model's word", "a", () => this.takePreLabel()) : null,
      one("skip", "Skip or flag", "s", () => this.skip()),
      el("button", { type: "button", class: "button", id: "undo", onclick: () => this.desk.undo() }, "Undo"),
      el("button", { type: "button", class: "button", id: "redo", onclick: () => this.desk.redo() }, "Redo"),
      this.done.length ? one("back", "Before", "PageUp", () => this.back()) : null,
      this.again ? one("onward", "On", "PageDown", () => this.onward()) : null,
      el("button", { type: "button", class: "button", id: "keys", onclick: () => this.desk.overview() }, "Keys ", el("kbd", {}, "?")),
      quick);
  }

  quickBox() {
    const box = el("input", { type: "checkbox", id: "quick", onchange: (e) => { try { localStorage.setItem("annotate-quick", e.target.checked ? "yes" : "no"); } catch { /* a private window */ } } });
    box.checked = this.quick;
    return box;
  }

  changed(answer) {
    if (this.task) drafts.put(this.task.name, answer);
  }

  async submit() {
    const task = this.task;
    if (!task || this.busy) return;
    if (this.desk.stage.finish?.()) return; // Enter closed an outline
    this.busy = true;
    this.active();
    const answer = said(this.desk.answer);
    try {
      await call("submit", { task: task.name, answer, seconds: Math.max(Math.round(100 * this.seconds) / 100, 0.01) });
    } catch (error) {
      this.busy = false;
      this.trouble(error);
      return;
    }
    drafts.drop(task.name);
    if (this.again) {
      this.again.entry.answer = answer;
      this.again = null;
    } else {
      this.done.push({ task, answer });
      this.answers += 1;
      this.leave(task);
    }
    await this.next("Handed in.");
  }

  async skip() {
    const task = this.task;
    if (!task || this.again || this.busy) return;
    const body = [
      el("fieldset", {}, el("legend", {}, "Why?"), [...REASONS, "Another reason"].map((words, at) => el("label", { class: "switch" }, el("input", { type: "radio", name: "why", value: at < REASONS.length ? words : "", ...(at ? {} : { checked: true }) }), ` ${words}`))),
      el("label", { class: "field", for: "why-text" }, "In your words", el("textarea", { id: "why-text", name: "text", rows: "2", maxlength: "1800" })),
      el("label", { class: "switch" }, el("input", { type: "checkbox", name: "flag", value: "yes" }), " Flag it: whoever leads the round shall look at it"),
    ];
    const given = await ask({ title: "Skip this one", body, yes: "Skip" });
    if (!given) return;
    const reason = `${given.flag ? "flag: " : ""}${[given.why, given.text.trim()].filter(Boolean).join(": ")}`;
    this.busy = true;
    try {
      await call("skip", { task: task.name, reason });
    } catch (error) {
      this.busy = false;
      this.trouble(error);
      return;
    }
    drafts.drop(task.name);
    this.leave(task);
    await this.next("Skipped; others may answer it.");
  }

  leave(task) {
    this.left.set(task.name, Date.now());
    this.queue = this.queue.filter((one) => one !== task);
  }

  async next(words) {
    const filled = this.fill();
    if (!this.queue.length) await filled;
    this.busy = false;
    await this.show();
    this.desk.said(words);
    await filled;
  }

  back() {
    const at = this.again ? this.done.indexOf(this.again.entry) - 1 : this.done.length - 1;
    if (at < 0) { this.desk.said("There is none before."); return; }
    this.lookAt(this.done[at]);
  }

  onward() {
    if (!this.again) return;
    const next = this.done[this.done.indexOf(this.again.entry) + 1];
    if (next) this.lookAt(next);
    else { this.again = null; this.show(); }
  }

  lookAt(entry) {
    this.again = { task: entry.task, answer: entry.answer, entry };
    this.show();
  }

  takePreLabel() {
    const found = this.task?.pre_label;
    if (!found) return;
    this.desk.take(found.answer);
    this.submit();
  }

  nothing() {
    this.desk.stageRoom.hidden = true;
    fill(this.note, el("div", { class: "state", id: "nothing-left" }, el("div", {},
      el("h2", {}, this.paused ? "The round is paused" : "Nothing is left for you here"),
      el("p", {}, this.paused ? "Nothing new is given out until it is opened again." : "All is answered, held by others, or skipped by you.")),
    el("button", { type: "button", class: "button", onclick: () => this.begin() }, "Look again")));
    fill(this.foot, this.done.length ? el("button", { type: "button", class: "button", id: "back", onclick: () => this.back() }, "Before") : null);
    this.desk.answer = answerOf(null);
  }

  trouble(error) {
    this.head.querySelector(".field-error")?.remove();
    if (error) this.head.append(el("p", { class: "field-error", role: "alert", id: "refused" }, error.message));
  }
}
