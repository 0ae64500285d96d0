// What the page asks of the console's own routes; the words of an error are the service's.
export class Refused extends Error {
  constructor(message, reason) {
    super(message);
    this.reason = reason;
  }
}

export async function call(verb, body) {
  let answer;
  try {
    answer = await fetch(`/annotate/${verb}`, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
  } catch {
    throw new Refused("The console does not answer. What you did is kept here; try again.", "UNREACHABLE");
  }
  const said = await answer.json().catch(() => ({ error: `The console answered ${answer.status}; load the page again.` }));
  if (!answer.ok) throw new Refused(said.error, said.reason || "");
  return said;
}

export const contentOf = (task) => `/annotate/content?task=${encodeURIComponent(task.name)}`;

// Gives tasks back when the page is left.
export function giveBack(names) {
  for (const task of names) navigator.sendBeacon("/annotate/release", new Blob([JSON.stringify({ task })], { type: "application/json" }));
}

// Drafts: what was begun and not yet handed in, kept by this browser for a week.
const KEY = "annotation:";
const WEEK = 7 * 86400e3;

export const drafts = {
  put(task, answer) {
    try { localStorage.setItem(KEY + task, JSON.stringify({ at: Date.now(), answer })); } catch { /* full, or a private window */ }
  },
  get(task) {
    try { return JSON.parse(localStorage.getItem(KEY + task))?.answer ?? null; } catch { return null; }
  },
  drop(task) {
    try { localStorage.removeItem(KEY + task); } catch { /* a private window */ }
  },
  sweep() {
    try {
      for (const key of Object.keys(localStorage)) {
        if (key.startsWith(KEY) && !(JSON.parse(localStorage.getItem(key))?.at > Date.now() - WEEK)) localStorage.removeItem(key);
      }
    } catch { /* a private window */ }
  },
};
