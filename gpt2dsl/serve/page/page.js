// The page of the server: it asks /v1/completions and /v1/chat/completions as any other client does.

const BEST = 5; // most likely tokens that are shown of each place
const SHADES = [0.05, 0.2, 0.5, 0.8]; // a probability below the first is shaded most

const byId = (id) => document.getElementById(id);
const problem = byId("problem");
const access = byId("access");
const settings = byId("settings");

let running = null; // the AbortController of the answer that is being given
let chat = []; // messages so far, as the server takes them

// ------------------------------------------------------------ asking

class Refusal extends Error {
  constructor(message, seconds = 0) {
    super(message);
    this.seconds = seconds; // after which to try again; 0 where that is not known
  }
}

function headers() {
  const key = sessionStorage.getItem("key");
  const named = { "Content-Type": "application/json" };
  return key ? { ...named, Authorization: `Bearer ${key}` } : named;
}

async function ask(path, body, signal) {
  const method = body ? "POST" : "GET";
  let response;
  try {
    response = await fetch(path, { method, headers: headers(), body: body && JSON.stringify(body), signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal("The server can't be reached. Is it still running?");
  }
  if (response.ok) {
    access.hidden = true;
    return response;
  }
  if (response.status === 401) {
    access.hidden = false;
    byId("key").select();
    throw new Refusal(sessionStorage.getItem("key") ? "The server does not take this key." : "");
  }
  const { error } = await response.json().catch(() => ({}));
  const words = error?.message ?? `The server answered ${response.status} ${response.statusText}.`;
  const seconds = Number(response.headers.get("Retry-After"));
  throw new Refusal(seconds ? `${words} Try again in ${seconds} s.` : words, seconds);
}

// Yield the documents of a stream of server-sent events.
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read().catch((error) => {
      if (error.name === "AbortError") throw error;
      throw new Refusal("The connection was lost before the answer was whole.");
    });
    if (done) throw new Refusal("The answer ended before it was whole.");
    const parts = (rest + value.replaceAll("\r\n", "\n")).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      const lines = part.split("\n").filter((line) => line.startsWith("data:"));
      const data = lines.map((line) => line.slice(5).trimStart()).join("\n");
      if (data === "[DONE]") return;
      if (!data) continue;
      const document = JSON.parse(data);
      if (document.error) throw new Refusal(document.error.message);
      yield document;
    }
  }
}

// Return the settings that were made, under the keys of a request.
function asked() {
  const body = { stream: true };
  for (const input of settings.querySelectorAll("input[type=number]")) {
    if (!input.validity.valid) {
      const name = input.closest("label").textContent.trim();
      input.focus();
      throw new Refusal(`${name}: ${input.validationMessage}`);
    }
    if (input.value !== "") body[input.name] = Number(input.value);
  }
  const lines = settings.elements.stop.value.split("\n").filter((line) => line !== "");
  if (lines.length) body.stop = lines.map((line) => line.replaceAll("\\n", "\n"));
  if (byId("model").value) body.model = byId("model").value;
  return body;
}

// ------------------------------------------------------------ showing

// An answer in an element, a token at a time.
class Answer {
  constructor(element) {
    this.element = element;
    this.waiting = []; // scores of tokens that are no whole character yet
  }

  add(text, scores) {
    const all = [...this.waiting, ...scores];
    if (text === "" && scores.length) {
      this.waiting = all;
      return;
    }
    if (text === "") return;
    this.waiting = [];
    const isSplit = all.length > 1 && all.map((score) => score.token).join("") === text;
    for (const [piece, of] of isSplit ? all.map((score) => [score.token, [score]]) : [[text, all]]) {
      const span = document.createElement("span");
      span.textContent = piece;
      span.className = "token";
      if (of.length) {
        span.scores = of;
        const probability = Math.exp(of.reduce((sum, score) => sum + score.logprob, 0));
        const shade = SHADES.findIndex((limit) => probability < limit);
        if (shade >= 0) span.classList.add(`p${shade}`);
      }
      this.element.append(span);
    }
  }
}

function clear() {
  document.querySelector(".token.current")?.classList.remove("current");
  byId("token").replaceChildren();
}

function show(span) {
  clear();
  span.classList.add("current");
  byId("token").replaceChildren(...(span.scores ?? []).map(list));
}

function list(score) {
  const element = document.createElement("dl");
  const best = new Map([[score.token, score.logprob], ...score.best]);
  const sorted = [...best].sort(([, one], [, other]) => other - one);
  for (const [token, logprob] of sorted) {
    const name = document.createElement("dt");
    const value = document.createElement("dd");
    name.textContent = visible(token);
    value.textContent = percent(Math.exp(logprob));
    if (token === score.token) name.className = value.className = "chosen";
    element.append(name, value);
  }
  return element;
}

function visible(token) {
  if (token.startsWith("bytes:")) return `a part of a character: ${token.slice(6).replaceAll("\\x", " ").trim()}`;
  return token.replaceAll(" ", "␣").replaceAll("\n", "⏎").replaceAll("\t", "⇥") || "(nothing)";
}

const percent = (p) => (p >= 0.001 ? `${(100 * p).toFixed(1)} %` : p > 0 ? "< 0.1 %" : "0 %");

function tell(words) {
  problem.textContent = words;
  problem.hidden = !words;
}

// ------------------------------------------------------------ the two panels

// Do the work of a panel, and return whether the answer came to its end.
async function run(panel, work) {
  if (running) return false;
  running = new AbortController();
  tell("");
  const status = panel.querySelector(".status");
  const [submit, halt] = [panel.querySelector("[type=submit]"), panel.querySelector(".halt")];
  submit.disabled = true;
  halt.hidden = false;
  panel.ariaBusy = "true";
  status.textContent = "Waiting for the first token …";
  try {
    status.textContent = await work(running.signal, (said) => (status.textContent = said));
    return true;
  } catch (error) {
    status.textContent = error.name === "AbortError" ? "Stopped." : "";
    if (error.name !== "AbortError") tell(error instanceof Refusal ? error.message : `This page failed: ${error}`);
    return false;
  } finally {
    running = null;
    submit.disabled = false;
    halt.hidden = true;
    panel.ariaBusy = "false";
  }
}

// Give each event's choice to a function, and return how the answer ended.
async function follow(path, body, signal, tellStatus, take) {
  const began = performance.now();
  let tokens = 0;
  let reason = "";
  for await (const { choices } of events(await ask(path, body, signal))) {
    const [choice] = choices ?? [];
    if (!choice) continue;
    tokens += take(choice);
    reason = choice.finish_reason ?? reason;
    tellStatus(`${tokens} tokens …`);
  }
  const seconds = (performance.now() - began) / 1000;
  const ended = reason === "length" ? "as many as were allowed" : "the text came to its end";
  return `${tokens} tokens in ${seconds.toFixed(1)} s; ${ended}.`;
}

function complete() {
  const prompt = byId("prompt").value;
  return run(byId("complete"), async (signal, tellStatus) => {
    const body = { ...asked(), prompt, logprobs: BEST };
    const given = document.createElement("span");
    given.className = "given";
    given.textContent = prompt;
    clear();
    byId("text").replaceChildren(given);
    const answer = new Answer(byId("text"));
    return follow("v1/completions", body, signal, tellStatus, ({ text, logprobs }) => {
      const scores = (logprobs?.tokens ?? []).map((token, i) => ({
        token,
        logprob: logprobs.token_logprobs[i],
        best: Object.entries(logprobs.top_logprobs?.[i] ?? {}),
      }));
      answer.add(text, scores);
      return scores.length;
    });
  });
}

function addMessage(role, text) {
  const element = document.createElement("div");
  element.className = `message ${role}`;
  element.setAttribute("aria-label", role === "user" ? "You" : "Model");
  element.setAttribute("role", "group");
  element.textContent = text;
  if (role === "assistant") {
    element.classList.add("tokens");
    element.tabIndex = 0;
  }
  byId("messages").append(element);
  return element;
}

function send() {
  const text = byId("message").value;
  if (!text.trim() || running) return;
  const mine = { role: "user", content: text };
  let shown = [];
  let content = "";
  return run(byId("chat"), async (signal, tellStatus) => {
    const system = byId("system").value;
    const before = system ? [{ role: "system", content: system }] : [];
    const body = { ...asked(), messages: [...before, ...chat, mine], logprobs: true, top_logprobs: BEST };
    byId("message").value = "";
    shown = [addMessage("user", text), addMessage("assistant", "")];
    const answer = new Answer(shown[1]);
    return follow("v1/chat/completions", body, signal, tellStatus, ({ delta, logprobs }) => {
      const scores = (logprobs?.content ?? []).map(({ token, logprob, top_logprobs }) => ({
        token,
        logprob,
        best: top_logprobs.map((one) => [one.token, one.logprob]),
      }));
      answer.add(delta.content ?? "", scores);
      content += delta.content ?? "";
      shown[1].scrollIntoView({ block: "nearest" });
      return scores.length;
    });
  }).then((isWhole) => {
    if (isWhole || content) {
      chat.push(mine, { role: "assistant", content });
    } else {
      shown.forEach((element) => element.remove());
      byId("message").value = text;
    }
  });
}

// ------------------------------------------------------------ events

function select(name) {
  for (const tab of document.querySelectorAll("[role=tab]")) {
    const isIt = tab.id === `tab-${name}`;
    tab.setAttribute("aria-selected", isIt);
    tab.tabIndex = isIt ? 0 : -1;
    byId(tab.getAttribute("aria-controls")).hidden = !isIt;
    if (isIt) tab.focus();
  }
  tell("");
}

function step(tokens, key) {
  const spans = [...tokens.querySelectorAll(".token")];
  const at = spans.findIndex((span) => span.classList.contains("current"));
  const next = key === "Home" ? 0 : key === "End" ? spans.length - 1 : at + (key === "ArrowRight" ? 1 : -1);
  const span = spans[Math.max(0, Math.min(next, spans.length - 1))];
  if (span) {
    show(span);
    span.scrollIntoView({ block: "nearest" });
  }
}

async function loadModels() {
  try {
    const { data } = await (await ask("v1/models")).json();
    byId("model").replaceChildren(...data.map(({ id }) => new Option(id)));
    tell("");
  } catch (error) {
    tell(error.message);
    if (error.seconds) setTimeout(loadModels, 1000 * error.seconds);
  }
}

for (const tab of document.querySelectorAll("[role=tab]")) {
  tab.addEventListener("click", () => select(tab.id.slice(4)));
  tab.addEventListener("keydown", ({ key }) => {
    if (key === "ArrowLeft" || key === "ArrowRight") select(tab.id === "tab-chat" ? "complete" : "chat");
  });
}
byId("complete-form").addEventListener("submit", (event) => {
  event.preventDefault();
  complete();
});
byId("chat-form").addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
byId("prompt").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) complete();
});
byId("message").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    send();
  }
});
byId("anew").addEventListener("click", () => {
  running?.abort();
  chat = [];
  clear();
  byId("messages").replaceChildren();
  byId("message").focus();
});
for (const halt of document.querySelectorAll(".halt")) halt.addEventListener("click", () => running?.abort());
document.addEventListener("keydown", ({ key }) => {
  if (key !== "Escape") return;
  running?.abort();
  clear();
});

document.addEventListener("pointerover", ({ target }) => target.classList?.contains("token") && show(target));
document.addEventListener("click", ({ target }) => {
  if (target.classList?.contains("token")) show(target);
  else if (!target.closest?.("aside")) clear();
});
document.addEventListener("keydown", (event) => {
  if (event.target.classList?.contains("tokens") && ["ArrowLeft", "ArrowRight", "Home", "End"].includes(event.key)) {
    event.preventDefault();
    step(event.target, event.key);
  }
});

byId("shade").addEventListener("change", ({ target }) => document.body.classList.toggle("shaded", target.checked));
document.body.classList.toggle("shaded", byId("shade").checked);
settings.addEventListener("submit", (event) => event.preventDefault());
access.addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("key", byId("key").value.trim());
  loadModels();
});

loadModels();
