// What stands beside the drawing: classes with their keys, what is marked as a list that can be edited, attributes, text.
import { el, fill } from "./dom.js";

export class Panel {
  // desk: { schema, answer, selected, label, readonly, choose(name), select(at), committed(), draw(), remove(at), stage }
  constructor(desk) {
    this.desk = desk;
    this.classes = el("div", { class: "classes" });
    this.objects = el("div", { class: "objects" });
    this.extra = el("div", { class: "extra" });
    this.root = el("div", {}, this.classes, this.objects, this.extra);
  }

  draw() {
    this.drawClasses();
    this.drawObjects();
    this.drawExtra();
  }

  drawClasses() {
    const { schema, answer, label, readonly } = this.desk;
    const many = schema.shapes.includes("CLASSES"), one = schema.shapes.includes("CLASS");
    const says = many || one;
    const title = many ? "Classes, any number" : one ? "Class" : "Class of what is drawn next";
    fill(this.classes, schema.classes.length ? el("fieldset", { disabled: readonly }, el("legend", {}, title), el("div", { class: "class-list" },
      schema.classes.map((each, at) => el("button", {
        type: "button", id: `class-${at}`, class: "class", title: each.description || null,
        "aria-pressed": String(says ? answer.classes.includes(each.name) || (!many && !one && label === each.name) : label === each.name),
        onclick: () => this.desk.choose(each.name),
      }, el("span", { class: "swatch", style: `background:${each.colour}`, "aria-hidden": "true" }), el("span", {}, each.name), each.key ? el("kbd", {}, each.key) : null)))) : null);
  }

  drawObjects() {
    const { schema, answer, stage } = this.desk;
    const shapes = schema.shapes.filter((one) => ["BOX", "POLYGON", "MASK", "KEYPOINTS", "RANGE"].includes(one));
    if (!shapes.length) { fill(this.objects); return; }
    const items = stage?.marks ? answer.ranges : answer.objects;
    fill(this.objects,
      el("div", { class: "objects-head" }, el("h2", {}, `Marked: ${items.length}`), this.desk.readonly ? null : el("button", { type: "button", class: "button small", id: "add", onclick: () => stage.addInTheMiddle() }, "Add ", el("kbd", {}, "+"))),
      items.length ? el("ol", {}, items.map((one, at) => this.item(one, at))) : el("p", { class: "muted small" }, "Nothing yet. If nothing is there to mark, hand it in as it is."));
  }

  item(one, at) {
    const { schema, selected, readonly } = this.desk;
    const chosen = at === selected;
    const named = `${at + 1} ${one.label}`;
    const name = el("select", { id: `o${at}-label`, "aria-label": `Class of ${named}`, disabled: readonly, onchange: (e) => { one.label = e.target.value; this.desk.committed(); } },
      schema.classes.map((each) => el("option", { value: each.name }, each.name)));
    name.value = one.label;
    const known = schema.classes.find((each) => each.name === one.label);
    return el("li", { class: chosen ? "chosen" : null },
      el("div", { class: "object" },
        el("button", { type: "button", class: "quiet", id: `o${at}-pick`, "aria-pressed": String(chosen), "aria-label": `Select ${named}`, onclick: () => this.desk.select(at) }, el("span", { class: "swatch", style: `background:${this.desk.colourOf(one.label)}`, "aria-hidden": "true" }), String(at + 1)),
        name,
        readonly ? null : el("button", { type: "button", class: "button small", id: `o${at}-remove`, "aria-label": `Remove ${named}`, onclick: () => this.desk.remove(at) }, "×")),
      chosen ? this.places(one, at, named) : null,
      chosen && known?.attributes?.length ? this.attributes(known.attributes, (one.attributes ??= {}), `o${at}`) : null);
  }

  places(one, at, named) {
    const { readonly, keypoints, stage } = this.desk;
    const number = (id, words, value, set) => el("label", { class: "place", for: id }, words, el("input", { type: "number", id, step: "any", value: String(value), readonly, onchange: (e) => { const given = Number(e.target.value); if (e.target.value !== "" && Number.isFinite(given)) set(given); this.desk.committed(); } }));
    if ("start" in one) {
      return el("div", { class: "places" },
        number(`o${at}-start`, "From step", one.start, (value) => { one.start = Math.min(Math.max(0, Math.round(value)), one.end - 1); }),
        number(`o${at}-end`, "to step", one.end, (value) => { one.end = Math.max(one.start + 1, Math.min(Math.round(value), stage.steps)); }));
    }
    if (one.keypoints?.length) {
      return el("div", { class: "places points" }, keypoints.flatMap((name, place) => [
        number(`o${at}-x${place}`, `${name} x`, one.keypoints[3 * place], (value) => { one.keypoints[3 * place] = value; one.keypoints[3 * place + 2] ||= 2; }),
        number(`o${at}-y${place}`, "y", one.keypoints[3 * place + 1], (value) => { one.keypoints[3 * place + 1] = value; one.keypoints[3 * place + 2] ||= 2; }),
        this.seen(one, at, place, name),
      ]));
    }
    if ("mask" in one) return el("p", { class: "muted small" }, `Pixels within ${one.box?.join(", ") ?? "the picture"}. Paint more, or erase.`);
    if (one.polygons?.length) {
      return el("div", { class: "places" }, one.polygons.map((ring, number_) => {
        const id = `o${at}-ring${number_}`;
        return el("label", { class: "place wide", for: id }, `Corners of ${named}: x,y x,y`, el("textarea", { id, rows: "2", readonly, onchange: (e) => {
          const given = e.target.value.split(/[\s,;]+/).filter(Boolean).map(Number);
          if (given.length >= 6 && given.length % 2 === 0 && given.every(Number.isFinite)) { ring.points = given; delete one.box; }
          else this.desk.said("An outline is x,y of at least three points.");
          this.desk.committed();
        }, value: ring.points.map((value, place) => (place % 2 ? `${value} ` : `${value},`)).join("").trim() }));
      }));
    }
    return el("div", { class: "places" }, ["left", "top", "right", "bottom"].map((side, place) => number(`o${at}-${side}`, side, one.box[place], (value) => { one.box[place] = value; })));
  }

  seen(one, at, place, name) {
    const id = `o${at}-v${place}`;
    const made = el("select", { id, "aria-label": `Visibility of ${name}`, disabled: this.desk.readonly, onchange: (e) => { one.keypoints[3 * place + 2] = Number(e.target.value); this.desk.committed(); } },
      [["0", "not marked"], ["1", "hidden"], ["2", "visible"]].map(([value, words]) => el("option", { value }, words)));
    made.value = String(one.keypoints[3 * place + 2]);
    return made;
  }

  drawExtra() {
    const { schema, answer, readonly } = this.desk;
    const text = schema.shapes.includes("TEXT") ? el("label", { class: "field", for: "answer-text" }, "Text", el("textarea", { id: "answer-text", rows: "3", maxlength: "10000", readonly, value: answer.text, oninput: (e) => { answer.text = e.target.value; this.desk.changed(); }, onchange: () => this.desk.committed() })) : null;
    fill(this.extra, text, schema.attributes.length ? el("fieldset", { disabled: readonly }, el("legend", {}, "Of the example"), this.attributes(schema.attributes, answer.attributes, "all")) : null);
  }

  attributes(asked, values, prefix) {
    const set = (name) => (e) => {
      const value = e.target.type === "checkbox" ? (e.target.checked ? "true" : "false") : e.target.value;
      if (value === "") delete values[name]; else values[name] = value;
      this.desk.committed();
    };
    return el("div", { class: "attributes" }, asked.map((one, at) => {
      const id = `${prefix}-attribute${at}`, words = one.name + (one.required ? " (needed)" : "");
      const disabled = this.desk.readonly;
      if (one.kind === "FLAG") {
        const box = el("input", { type: "checkbox", id, disabled, onchange: set(one.name) });
        box.checked = values[one.name] === "true";
        return el("label", { class: "switch", for: id }, box, ` ${words}`);
      }
      if (one.kind === "CHOICE") {
        const made = el("select", { id, disabled, onchange: set(one.name) }, ["", ...one.values].map((value) => el("option", { value }, value || "not said")));
        made.value = values[one.name] ?? "";
        return el("label", { class: "place wide", for: id }, words, made);
      }
      return el("label", { class: "place wide", for: id }, words, el("input", { type: "text", id, maxlength: "1000", disabled, inputmode: one.kind === "NUMBER" ? "decimal" : null, value: values[one.name] ?? "", onchange: set(one.name) }));
    }));
  }
}
