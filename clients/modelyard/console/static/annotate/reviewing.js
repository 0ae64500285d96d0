// A reviewer's sitting: what people said of each example, one beside the other; accepted, corrected, or sent back with a reason.
import { Desk, said } from "./desk.js";
import { ask, el, fill } from "./dom.js";
import { call, contentOf } from "./server.js";

export class Reviewing {
  constructor(room, { round, schema, tasks, wanted }) {
    Object.assign(this, { round, schema, only: tasks ?? [], wanted });
    this.queue = [];
    this.after = "";
    this.reviewed = 0;
    this.left = 0; // those left for later: they stay in the list
    this.shown = ""; // whose answer is on the table; "" the first
    const shown = el("div", { class: "desk" });
    this.head = el("div", { class: "desk-head" });
    this.people = el("div", { class: "people" });
    this.foot = el("div", { class: "actions desk-foot" });
    const commands = [
      { key: "Enter", words: "accept; where you changed something: correct", act: () => this.accept() },
      { key: "p", words: "the next person's answer", act: () => this.nextPerson() },
      { key: "e", words: "change it", act: () => this.edit() },
      { key: "r", words: "reject, with a reason", act: () => this.reject() },
      { key: "PageDown", words: "leave it for later", act: () => this.later() },
    ];
    this.desk = new Desk(shown, schema, { commands, readonly: true, changed: () => { this.edited = true; this.drawFoot(); } });
    room.append(this.head, el("div", { class: "desk-split" }, shown, el("div", { class: "desk-side" }, this.people, this.desk.panel.root, this.foot)));
  }

  async begin() {
    try {
      const found = await call("reviewable", { round: this.round, after: this.only.length ? this.after : String(this.left), tasks: this.only });
      this.queue.push(...found.tasks);
      this.after = found.next;
    } catch (error) {
      this.trouble(error);
      return;
    }
    await this.show();
  }

  get task() { return this.queue[0]; }
  get answers() { return this.task?.answers ?? []; }

  async show() {
    fill(this.head, el("p", { class: "small muted", id: "progress" }, `${this.reviewed} reviewed in this sitting`));
    if (!this.task) {
      if (this.after) { await this.begin(); return; }
      this.desk.stageRoom.hidden = true;
      fill(this.head, el("div", { class: "state", id: "nothing-left" }, el("div", {}, el("h2", {}, "Nothing is left to review"), el("p", {}, "Examples come here when all answers that are wanted are there."))));
      for (const room of [this.people, this.foot, this.desk.panel.root]) fill(room);
      return;
    }
    if (this.queue[1]) fetch(contentOf(this.queue[1].task)).catch(() => {});
    this.edited = false;
    this.desk.setReadonly(true);
    this.shown = this.answers[0]?.annotator ?? "";
    await this.desk.show(this.task.task, contentOf(this.task.task), this.answers[0]?.answer);
    this.drawPeople();
    this.drawFoot();
  }

  drawPeople() {
    const pick = (who) => () => this.look(who);
    fill(this.people, el("fieldset", {}, el("legend", {}, "What people said"), this.answers.map(({ annotator, answer, seconds, unchanged }, at) => {
      const box = el("input", { type: "radio", name: "person", id: `person-${at}`, value: annotator, onchange: pick(annotator) });
      box.checked = annotator === this.shown;
      return el("label", { class: "pick", for: `person-${at}` }, box, el("span", {}, el("strong", {}, annotator), el("span", { class: "small muted" }, ` ${summary(answer)}${seconds ? ` · ${seconds.toFixed(0)} s` : ""}${unchanged ? " · the model's word, unchanged" : ""}`)));
    })), this.task.skips.length ? el("ul", { class: "small" }, this.task.skips.map(({ annotator, reason }) => el("li", {}, el("strong", {}, annotator), ` skipped: ${reason || "no reason given"}`))) : null);
  }

  drawFoot() {
    const key = (name) => el("kbd", {}, this.desk.keyOf(this.desk.commands.find((one) => one.key === name)));
    const one = (id, words, name, act, kind = "") => el("button", { type: "button", class: `button ${kind}`, id, onclick: act }, words, " ", key(name));
    fill(this.foot,
      one("accept", this.edited ? "Correct" : this.answers.length > 1 ? `Accept ${this.shown}` : "Accept", "Enter", () => this.accept(), "primary"),
      this.answers.length > 1 && !this.edited ? el("button", { type: "button", class: "button", id: "consensus", onclick: () => this.review({ verdict: "accept" }) }, "Accept what most say") : null,
      this.desk.readonly ? one("edit", "Change it", "e", () => this.edit()) : null,
      one("reject", "Reject", "r", () => this.reject(), "danger"),
      one("later", "Later", "PageDown", () => this.later()),
      el("button", { type: "button", class: "button", id: "keys", onclick: () => this.desk.overview() }, "Keys ", el("kbd", {}, "?")));
  }

  look(who) {
    this.shown = who;
    this.edited = false;
    this.desk.setReadonly(true);
    this.desk.answer = structuredClone(this.answers.find((one) => one.annotator === who)?.answer ?? {});
    this.desk.show(this.task.task, contentOf(this.task.task), this.desk.answer).then(() => this.drawFoot());
  }

  nextPerson() {
    const at = this.answers.findIndex((one) => one.annotator === this.shown);
    const next = this.answers[(at + 1) % this.answers.length];
    if (next) { this.look(next.annotator); this.drawPeople(); this.desk.said(`${next.annotator}: ${summary(next.answer)}`); }
  }

  edit() {
    this.desk.setReadonly(false);
    this.drawFoot();
    this.desk.stage.view.focus({ preventScroll: true });
    this.desk.said("Change it; Enter makes it the right answer.");
  }

  accept() {
    if (!this.task) return;
    if (this.desk.stage.finish?.()) return;
    if (this.edited) this.review({ verdict: "correct", answer: said(this.desk.answer) });
    else this.review({ verdict: "accept", annotator: this.answers.length > 1 ? this.shown : "" });
  }

  async reject() {
    if (!this.task) return;
    const whose = this.answers.length > 1 ? [el("label", { class: "switch" }, el("input", { type: "checkbox", name: "one", value: "yes", checked: true }), ` Only the answer of ${this.shown}`)] : [];
    const given = await ask({ title: "Reject", body: [...whose, el("label", { class: "field", for: "why-text" }, "Why; it is shown with the task", el("textarea", { id: "why-text", name: "text", rows: "3", maxlength: "2000", required: true }))], yes: "Reject", danger: true });
    if (given) await this.review({ verdict: "reject", reason: given.text.trim(), annotator: given.one ? this.shown : "" });
  }

  later() {
    if (!this.task) return;
    this.left += 1;
    this.queue.shift();
    this.show();
  }

  async review(review) {
    if (this.busy || !this.task) return;
    this.busy = true;
    try {
      await call("review", { task: this.task.task.name, ...review });
    } catch (error) {
      this.trouble(error);
      return;
    } finally {
      this.busy = false;
    }
    this.reviewed += 1;
    this.queue.shift();
    await this.show();
    this.desk.said({ accept: "Accepted.", correct: "Corrected.", reject: "Rejected; it goes out again." }[review.verdict]);
  }

  trouble(error) {
    this.head.querySelector(".field-error")?.remove();
    this.head.append(el("p", { class: "field-error", role: "alert", id: "refused" }, error.message));
  }
}

// An answer in a few words.
function summary(answer) {
  const counted = new Map();
  for (const one of [...(answer.objects ?? []), ...(answer.ranges ?? [])]) counted.set(one.label, (counted.get(one.label) ?? 0) + 1);
  const marked = [...counted].map(([label, number]) => (number > 1 ? `${label} × ${number}` : label));
  return [...(answer.classes ?? []), ...marked, answer.text ?? ""].filter(Boolean).join(", ") || "nothing is there";
}
