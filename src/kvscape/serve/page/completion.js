// One streamed answer of /v1/chat/completions.

// Yields { text, reason, usage } as they come; throws an Error that says what the server said.
export async function* complete(body, key, signal) {
  const response = await reach("v1/chat/completions", {
    method: "POST",
    headers: { "Content-Type": "application/json", ...authorization(key) },
    body: JSON.stringify({ ...body, stream: true, stream_options: { include_usage: true } }),
    signal,
  });
  if (!response.ok) throw new Error(await complaint(response));
  for await (const data of events(response.body)) {
    if (data === "[DONE]") return;
    const said = JSON.parse(data);
    if (said.error) throw new Error(said.error.message);
    const choice = said.choices?.[0];
    yield { text: choice?.delta?.content ?? "", reason: choice?.finish_reason ?? null, usage: said.usage ?? null };
  }
  throw new Error("the connection ended before the answer did");
}

// Each browser has words of its own for a server that is away.
export async function reach(path, options) {
  try {
    return await fetch(path, options);
  } catch (error) {
    throw options.signal?.aborted ? error : new Error("the server does not answer");
  }
}

export function authorization(key) {
  const bytes = new TextEncoder().encode(key); // a header holds bytes, and the server takes them for UTF-8
  return key ? { Authorization: `Bearer ${String.fromCharCode(...bytes)}` } : {};
}

export async function complaint(response) {
  const text = await response.text();
  let said = null;
  try {
    said = JSON.parse(text).error.message;
  } catch {
    said = `the server answers ${response.status}`;
  }
  const wait = response.headers.get("Retry-After");
  return wait && response.status === 429 ? `${said} (try again in ${wait} s)` : said;
}

// The data of each server-sent event.
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const parts = (held + value).split(/\r?\n\r?\n/);
      held = parts.pop();
      for (const part of parts) {
        const lines = part.split(/\r?\n/).filter((line) => line.startsWith("data:"));
        if (lines.length) yield lines.map((line) => line.slice(5).replace(/^ /, "")).join("\n");
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
