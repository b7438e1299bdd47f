// The chat: what was said, the form, and the settings.

import { authorization, complaint, complete, reach } from "./completion.js";
import { watch } from "./gauges.js";
import { element, show } from "./markdown.js";

const SETTINGS = ["system", "temperature", "max-tokens", "api-key"];
const NOTES = { length: "ended at max. tokens", error: "the answer failed" };
const $ = (id) => document.getElementById(id);
const log = $("log"), question = $("question"), status = $("status");

let messages = []; // what the model is told, without the system prompt
let running = null; // the AbortController of the answer that comes
let model = null;

for (const name of SETTINGS) { // they live as long as the tab
  $(name).value = sessionStorage.getItem(name) ?? $(name).value;
  $(name).addEventListener("change", () => {
    sessionStorage.setItem(name, $(name).value);
    if (name === "api-key") findModel();
  });
}
$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  ask(question.value.trim());
});
question.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("ask").requestSubmit();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") running?.abort();
});
$("stop").addEventListener("click", () => running?.abort());
$("reset").addEventListener("click", () => {
  running?.abort();
  messages = [];
  log.replaceChildren();
  say("");
  question.focus();
});
findModel();
watch(() => $("api-key").value);

async function findModel() {
  try {
    const response = await reach("v1/models", { headers: authorization($("api-key").value) });
    if (!response.ok) throw Object.assign(new Error(await complaint(response)), { status: response.status });
    model = (await response.json()).data[0].id;
    $("model").textContent = model;
    say("");
  } catch (error) {
    say(error.message, true);
    if (error.status === 401) {
      $("settings").open = true;
      $("api-key").focus();
    }
  }
}

async function ask(text) {
  if (!text || running) return;
  if (!model) await findModel();
  if (!model || running) return;
  const talk = messages, asked = { role: "user", content: text };
  const shown = [message("user", text), message("assistant", "")];
  question.value = "";
  begin();
  const answer = { text: "", reason: null, usage: null, error: null, began_s: null };
  try {
    await receive(request([...talk, asked]), answer, shown[1]);
  } catch (error) {
    answer.error = running.signal.aborted ? null : error.message;
    answer.reason = running.signal.aborted ? "stopped" : "error";
  }
  end(answer, shown, asked, talk);
}

function request(said) {
  const system = $("system").value.trim();
  const numbers = { temperature: $("temperature").valueAsNumber, max_tokens: $("max-tokens").valueAsNumber };
  const given = Object.entries(numbers).filter(([, value]) => Number.isFinite(value));
  return { model, messages: system ? [{ role: "system", content: system }, ...said] : said, ...Object.fromEntries(given) };
}

async function receive(body, answer, article) {
  let waits = false;
  for await (const piece of complete(body, $("api-key").value, running.signal)) {
    if (piece.text) answer.began_s ??= performance.now() / 1000;
    answer.text += piece.text;
    answer.reason = piece.reason ?? answer.reason;
    answer.usage = piece.usage ?? answer.usage;
    if (waits || !piece.text) continue;
    waits = true; // many pieces may come before the browser draws once
    requestAnimationFrame(() => {
      waits = false;
      draw(article, answer.text);
    });
  }
}

function begin() {
  running = new AbortController();
  log.setAttribute("aria-busy", "true");
  $("send").hidden = true;
  $("stop").hidden = false;
  say("Answering …");
}

function end(answer, [asked, answered], said, talk) {
  const { text, error } = answer;
  running = null;
  log.removeAttribute("aria-busy");
  $("stop").hidden = true;
  $("send").hidden = false;
  draw(answered, text);
  if (text) talk.push(said, { role: "assistant", content: text });
  else if (error) { // nothing came: the question can be sent again
    asked.remove();
    answered.remove();
    question.value ||= said.content;
  }
  if (text || !error) answered.append(Object.assign(element("p", note(answer)), { className: "note" }));
  say(error ?? "", error !== null);
  if (document.activeElement === document.body || document.activeElement === $("stop")) question.focus();
}

function note({ reason, usage, began_s: began }) {
  const seconds = began === null ? 0 : performance.now() / 1000 - began;
  const tokens = usage?.completion_tokens;
  const speed = tokens > 1 && seconds > 0 ? `${((tokens - 1) / seconds).toFixed(1)} tokens/s` : "";
  return [tokens ? `${tokens} tokens` : "", speed, NOTES[reason] ?? (reason === "stop" ? "" : reason ?? "")]
    .filter(Boolean).join(" · ");
}

function message(role, text) {
  const article = element("article"), body = element("div");
  article.className = role;
  article.append(element("h2", role === "user" ? "You" : model), body);
  if (role === "user") body.textContent = text;
  log.append(article);
  log.scrollTop = log.scrollHeight;
  return article;
}

function draw(article, text) {
  const follows = log.scrollHeight - log.scrollTop - log.clientHeight < 60;
  show(article.querySelector("div"), text);
  if (follows) log.scrollTop = log.scrollHeight;
}

function say(text, bad = false) {
  status.textContent = text;
  status.classList.toggle("error", bad);
}
