// A stretch of HTML from the server. When it changes, only what differs is touched: focus, selection, scrolling and what is being
// typed stay. Events are told by attributes:
//   data-act="NAME" data-arg="..."   a click (or Enter, Space) on it     data-confirm="QUESTION" is asked first
//   data-change="NAME"               a new value of an input             data-input="NAME" while it is being changed
//   data-submit="NAME"               of a form, with all its values
//   data-keep                        a box that stays ticked, wherever the list has moved it
// While nobody sees the page (another tab is in front) nothing is touched; the newest is shown when it is seen again.
export default {
  template: "<div></div>",
  props: { markup: String },
  mounted() {
    this.$el.innerHTML = this.markup;
    this.timers = {};
    this.$el.addEventListener("click", (e) => this.onClick(e));
    this.$el.addEventListener("change", (e) => this.onValue(e, "change"));
    this.$el.addEventListener("input", (e) => this.onValue(e, "input"));
    this.$el.addEventListener("submit", (e) => this.onSubmit(e));
    this.seen = () => { if (this.late && !document.hidden) this.draw(); };
    document.addEventListener("visibilitychange", this.seen);
    globalThis.modelyard?.shown(this.$el);
  },
  unmounted() {
    document.removeEventListener("visibilitychange", this.seen);
  },
  watch: {
    markup() {
      if (document.hidden) this.late = true;
      else this.draw();
    },
  },
  methods: {
    draw() {
      this.late = false;
      const next = document.createElement("div");
      next.innerHTML = this.markup;
      const ticked = [...this.$el.querySelectorAll("input[data-keep]:checked")];
      morphChildren(this.$el, next);
      for (const { id } of ticked) this.$el.querySelectorAll(`[id="${id}"]`).forEach((one) => { one.checked = true; });
      globalThis.modelyard?.shown(this.$el);
    },
    async onClick(e) {
      const at = e.target.closest("[data-act]");
      if (!at || !this.$el.contains(at) || at.disabled || at.getAttribute("aria-disabled") === "true") return;
      e.preventDefault();
      const question = at.dataset.confirm;
      if (question && !(await globalThis.modelyard.ask(question, at.dataset.yes || at.textContent.trim(), at.dataset.danger !== undefined))) return;
      this.say(at.dataset.act, at);
    },
    onValue(e, kind) {
      const at = e.target.closest(`[data-${kind}]`);
      if (!at) return;
      clearTimeout(this.timers[at.id]);
      const wait = kind === "input" ? 250 : 0;
      this.timers[at.id] = setTimeout(() => this.say(at.dataset[kind], at), wait);
    },
    onSubmit(e) {
      const name = e.target.getAttribute("data-submit"); // not .dataset: an input of that name would stand before it
      if (!name && e.target.getAttribute("method") === "post") return; // a form of a route of ours
      e.preventDefault();
      if (name) this.say(name, e.submitter || e.target);
    },
    say(name, at) {
      const form = at.closest("form");
      const values = {};
      if (form) for (const [key, value] of new FormData(form)) if (typeof value === "string") values[key] = key in values ? [].concat(values[key], value) : value;
      const value = at.type === "checkbox" ? at.checked : at.value;
      this.$emit("act", { name, arg: at.dataset.arg ?? null, value: value ?? null, form: values });
    },
  },
};

function morphChildren(from, to) {
  const old = [...from.childNodes], fresh = [...to.childNodes];
  const keyed = new Map(old.filter((n) => n.id).map((n) => [n.id, n]));
  let at = from.firstChild;
  for (const next of fresh) {
    const kept = next.id ? keyed.get(next.id) : at && !at.id && sameKind(at, next) ? at : null;
    if (kept && sameKind(kept, next)) {
      if (kept !== at) from.insertBefore(kept, at);
      else at = at.nextSibling;
      morph(kept, next);
    } else {
      from.insertBefore(next, at);
    }
  }
  while (at) {
    const gone = at;
    at = at.nextSibling;
    gone.remove();
  }
}

function sameKind(a, b) {
  return a.nodeType === b.nodeType && a.nodeName === b.nodeName;
}

function morph(from, to) {
  if (from.nodeType !== 1) {
    if (from.nodeValue !== to.nodeValue) from.nodeValue = to.nodeValue;
    return;
  }
  if (from.isEqualNode(to)) return;
  for (const { name } of [...from.attributes]) if (!to.hasAttribute(name) && name !== "open") from.removeAttribute(name);
  for (const { name, value } of [...to.attributes]) if (from.getAttribute(name) !== value) from.setAttribute(name, value);
  if (from.nodeName === "INPUT" && document.activeElement !== from) {
    if (from.type === "checkbox" || from.type === "radio") from.checked = to.hasAttribute("checked");
    else if (from.type !== "file") from.value = to.getAttribute("value") ?? "";
  }
  if (from.nodeName === "TEXTAREA") {
    if (document.activeElement !== from) from.value = to.value;
    return;
  }
  morphChildren(from, to);
  if (from.nodeName === "SELECT" && document.activeElement !== from) from.value = to.value;
}
