// What pages do by themselves: dark or light, the menu, notices, questions, readings of charts, dropped files, keys.
(() => {
  const root = document.documentElement;
  const kept = (name) => { try { return localStorage.getItem(name); } catch { return null; } };
  const keep = (name, value) => { try { localStorage.setItem(name, value); } catch { /* private windows */ } };

  if (kept("theme")) root.dataset.theme = kept("theme");
  const isDark = () => (root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";

  document.addEventListener("click", (e) => {
    if (e.target.closest("[data-theme-button]")) {
      root.dataset.theme = isDark() ? "light" : "dark";
      keep("theme", root.dataset.theme);
    }
    const menu = e.target.closest("[data-menu]");
    if (menu) {
      const open = document.querySelector(".nav").classList.toggle("open");
      menu.setAttribute("aria-expanded", String(open));
    }
    const copy = e.target.closest("[data-copy]");
    if (copy) navigator.clipboard?.writeText(copy.dataset.copy).then(() => api.tell("Copied", "good"));
  });

  document.addEventListener("change", (e) => {
    const at = e.target;
    if (at.matches?.("[data-project]")) {
      const project = at.value.trim();
      if (/^[a-z][a-z0-9-]{0,62}$/.test(project)) {
        keep("projects", JSON.stringify([...new Set([project, ...JSON.parse(kept("projects") ?? "[]")])].slice(0, 12)));
        location.href = `/p/${project}`;
      } else {
        api.tell(`project is "${project}"; give 1 to 63 of a-z, 0-9 and -, starting with a letter`, "bad");
      }
    }
    if (at.matches?.("[data-go]")) location.href = at.value;
  });

  // Keys: / to search, g then a letter to go, ? for help.
  let before = "";
  document.addEventListener("keydown", (e) => {
    if (e.target.closest("input, textarea, select, dialog") || e.ctrlKey || e.metaKey || e.altKey) return;
    if (e.key === "/") {
      const search = document.querySelector("[data-search]");
      if (search) { e.preventDefault(); search.focus(); }
    }
    if (before === "g") {
      const to = { o: "", d: "/datasets", a: "/annotation", r: "/runs", m: "/models", e: "/endpoints", t: "/train" }[e.key];
      if (to !== undefined) location.href = `/p/${location.pathname.split("/")[2] || "default"}${to}`;
    }
    before = e.key;
    const move = { ArrowLeft: "prev", ArrowRight: "next", Escape: "close" }[e.key];
    if (move) document.querySelector(`[data-key="${move}"]`)?.click();
  });

  const api = {
    tell(message, kind) {
      let room = document.getElementById("notices");
      if (!room) {
        room = document.createElement("div");
        room.id = "notices";
        room.setAttribute("role", "region");
        room.setAttribute("aria-label", "Notices");
        room.setAttribute("aria-live", "polite");
        document.body.append(room);
      }
      const notice = document.createElement("div");
      notice.className = `notice notice-${kind}`;
      if (kind === "bad") notice.setAttribute("role", "alert");
      const text = document.createElement("span");
      text.textContent = message;
      const close = document.createElement("button");
      close.type = "button";
      close.className = "quiet";
      close.setAttribute("aria-label", "Close this notice");
      close.textContent = "×";
      close.onclick = () => notice.remove();
      notice.append(text, close);
      room.append(notice);
      setTimeout(() => notice.remove(), kind === "bad" ? 15000 : 5000);
    },

    ask(question, yes, danger) {
      return new Promise((answer) => {
        const dialog = document.createElement("dialog");
        dialog.className = "ask";
        dialog.setAttribute("aria-labelledby", "ask-words");
        const words = document.createElement("p");
        words.id = "ask-words";
        words.textContent = question;
        const no = Object.assign(document.createElement("button"), { type: "button", className: "button", textContent: "Cancel" });
        const go = Object.assign(document.createElement("button"), { type: "button", className: `button ${danger ? "danger" : "primary"}`, textContent: yes });
        const buttons = document.createElement("div");
        buttons.className = "actions";
        buttons.append(no, go);
        dialog.append(words, buttons);
        document.body.append(dialog);
        const end = (value) => { dialog.close(); dialog.remove(); answer(value); };
        no.onclick = () => end(false);
        go.onclick = () => end(true);
        dialog.addEventListener("cancel", (e) => { e.preventDefault(); end(false); });
        dialog.showModal();
        (danger ? no : go).focus();
      });
    },

    // Called with every stretch of the page that was shown or changed.
    shown(at) {
      const projects = at.querySelector?.("#projects");
      if (projects && !projects.children.length) {
        for (const name of new Set(["default", ...JSON.parse(kept("projects") ?? "[]")])) projects.append(Object.assign(document.createElement("option"), { value: name }));
      }
      for (const log of at.querySelectorAll?.("[data-follow]") ?? []) keepUp(log);
      if (pointed && at.contains?.(pointed.svg)) read(pointed.svg, pointed.x); // its chart was drawn anew
      for (const box of at.querySelectorAll?.("[data-drop]") ?? []) drop(box);
      for (const each of at.querySelectorAll?.("dialog[data-open]:not([open])") ?? []) each.showModal();
    },
  };
  globalThis.modelyard = api;

  // A log shows its end as it grows, until somebody scrolls up in it; at its end it goes on.
  const ends = new WeakMap();
  function keepUp(log) {
    if (!ends.has(log)) log.addEventListener("scroll", () => ends.set(log, log.scrollHeight - log.scrollTop - log.clientHeight < 40));
    if (ends.get(log) ?? true) log.scrollTop = log.scrollHeight;
    if (!ends.has(log)) ends.set(log, true);
  }

  // What a curve says under the pointer.
  let pointed = null;
  document.addEventListener("pointermove", (e) => {
    const svg = e.target.closest?.("svg[data-lines]");
    if (pointed && pointed.svg !== svg) unread(pointed.svg.closest(".chart"));
    pointed = svg ? { svg, x: e.clientX } : null;
    if (svg) read(svg, e.clientX);
  });
  function unread(chart) {
    chart?.classList.remove("read");
    chart?.querySelector(".pointer")?.setAttribute("visibility", "hidden");
  }
  let parsed = {};
  function read(svg, x_seen) {
    if (parsed.text !== svg.dataset.lines) parsed = { text: svg.dataset.lines, said: JSON.parse(svg.dataset.lines) };
    const { x, scale, lines } = parsed.said;
    const box = svg.getBoundingClientRect();
    const width = svg.viewBox.baseVal.width;
    const place = ((x_seen - box.left) / box.width) * width;
    const value = scale[0] + ((place - scale[2]) / (scale[3] - scale[2])) * (scale[1] - scale[0]);
    let nearest = null;
    for (const line of lines) for (const [px] of line.p) if (nearest === null || Math.abs(px - value) < Math.abs(nearest - value)) nearest = px;
    const chart = svg.closest(".chart");
    const pointer = svg.querySelector(".pointer");
    const at = scale[2] + ((nearest - scale[0]) / (scale[1] - scale[0])) * (scale[3] - scale[2]);
    pointer.setAttribute("x1", at);
    pointer.setAttribute("x2", at);
    pointer.setAttribute("visibility", "visible");
    const reading = chart.querySelector(".reading");
    reading.replaceChildren(Object.assign(document.createElement("b"), { textContent: `${x} ${+nearest.toPrecision(6)}` }));
    for (const line of lines) {
      const point = line.p.reduce((best, p) => (Math.abs(p[0] - nearest) < Math.abs(best[0] - nearest) ? p : best), line.p[0]);
      const row = document.createElement("div");
      row.textContent = `${line.name} ${+point[1].toPrecision(4)}`;
      reading.append(row);
    }
    chart.classList.add("read");
    reading.style.left = `${Math.min(((at / width) * box.width) + 12, box.width - reading.offsetWidth - 4)}px`;
  }

  // Files and folders that are dropped or chosen, sent one after the other to data-drop. Those dropped beside the box are meant for
  // it, too; where a page has none, the browser is kept from leaving for the file.
  const carriesFiles = (e) => [...(e.dataTransfer?.types ?? [])].includes("Files");
  for (const name of ["dragover", "dragenter"]) document.addEventListener(name, (e) => { if (carriesFiles(e)) e.preventDefault(); });
  document.addEventListener("drop", (e) => {
    if (!carriesFiles(e)) return;
    e.preventDefault();
    const box = e.target.closest?.("[data-drop]") ?? document.querySelector("[data-drop]");
    // What was dragged from another page is a file without an entry.
    if (box) bring(box, [...e.dataTransfer.items].filter((item) => item.kind === "file").map((item) => item.webkitGetAsEntry?.() ?? item.getAsFile()).filter(Boolean));
  });
  // No attributes: the box may be drawn anew, which would take them away.
  const ready = new WeakSet();
  const sending = new Set();
  addEventListener("beforeunload", (e) => { if (sending.size) e.preventDefault(); });
  function drop(box) {
    if (ready.has(box)) return;
    ready.add(box);
    for (const input of box.querySelectorAll("input[type=file]")) {
      input.addEventListener("change", () => {
        send(box, [...input.files].map((file) => [file.webkitRelativePath || file.name, file]));
        input.value = ""; // the same again is a change, too
      });
    }
    for (const name of ["dragover", "dragenter"]) box.addEventListener(name, () => box.classList.add("over"));
    for (const name of ["dragleave", "drop"]) box.addEventListener(name, () => box.classList.remove("over"));
  }
  async function bring(box, entries) {
    const files = [];
    try {
      for (const entry of entries) await walk(entry, "", files);
    } catch (error) {
      api.tell(`What was dropped cannot be read: ${error.message || error.name}`, "bad");
      return;
    }
    send(box, files, entries[0]?.name);
  }
  async function walk(entry, folder, files) {
    if (entry instanceof File) {
      files.push([entry.name, entry]);
      return;
    }
    if (entry.isFile) {
      files.push([folder + entry.name, await new Promise((ok, no) => entry.file(ok, no))]);
      return;
    }
    const reader = entry.createReader();
    for (;;) {
      const some = await new Promise((ok, no) => reader.readEntries(ok, no));
      if (!some.length) return;
      for (const each of some) await walk(each, `${folder}${entry.name}/`, files);
    }
  }
  async function send(box, files, name = "") {
    const bar = box.querySelector("[data-sent]");
    if (sending.has(box)) {
      api.tell("Other files are still on their way; drop these when they are here.", "bad");
      return;
    }
    if (!files.length) {
      api.tell(`There is no file in ${name || "what was chosen"}.`, "bad");
      return;
    }
    sending.add(box);
    const total = files.reduce((sum, [, file]) => sum + file.size, 0);
    let done = 0, at = 0, failed = "";
    const show = () => { bar.textContent = `${at.toLocaleString("en")} of ${files.length.toLocaleString("en")} files, ${Math.round((100 * done) / Math.max(total, 1))} %`; };
    show();
    const one = async () => {
      while (at < files.length && !failed) {
        const [path, file] = files[at++];
        const answer = await fetch(`${box.dataset.drop}?path=${encodeURIComponent(path)}`, { method: "POST", body: file }).catch(() => null);
        if (!answer?.ok) failed = answer ? await answer.text() : "The connection broke while files were being sent.";
        done += file.size;
        show();
      }
    };
    await Promise.all([one(), one(), one(), one()]);
    sending.delete(box);
    bar.textContent = failed || `${files.length.toLocaleString("en")} files are here.`;
    box.querySelector("[data-dropped]").dataset.arg = JSON.stringify({ failed, files: files.length, first: files[0][0], bytes: total });
    box.querySelector("[data-dropped]").click();
  }
})();
