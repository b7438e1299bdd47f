// What the engine is doing, once a second from /metrics.

import { authorization } from "./completion.js";

const PERIOD_MS = 1000;
const SAMPLE = /^kvscape_(\w+) (\S+)$/gm;

export function watch(readKey) {
  let before = null;
  const look = async () => {
    if (document.visibilityState === "visible") before = draw(await read(readKey()), before);
    setTimeout(look, PERIOD_MS);
  };
  look();
}

async function read(key) {
  try {
    const response = await fetch("metrics", { headers: authorization(key) });
    if (!response.ok) return null;
    const samples = [...(await response.text()).matchAll(SAMPLE)].map(([, name, value]) => [name, Number(value)]);
    return { ...Object.fromEntries(samples), at_s: performance.now() / 1000 };
  } catch {
    return null; // the server is away: it may come back
  }
}

function draw(now, before) {
  const speed = now && before
    ? Math.max(0, now.generated_tokens_total - before.generated_tokens_total) / (now.at_s - before.at_s) : NaN;
  put("speed", speed, (value) => value.toFixed(value < 10 ? 1 : 0));
  put("occupancy", now?.kv_occupancy_ratio, (value) => `${Math.round(100 * value)} %`);
  put("batch", now?.batch_size);
  put("queue", now?.requests_waiting);
  document.getElementById("occupancy-bar").value = now?.kv_occupancy_ratio ?? 0;
  return now;
}

function put(id, value, shown = String) {
  document.getElementById(id).textContent = Number.isFinite(value) ? shown(value) : "–";
}
