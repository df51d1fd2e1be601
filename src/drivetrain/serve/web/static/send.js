// Send pictures to the server, two at a time, each as the bytes of its file.

const AT_ONCE = 2;
const TRIES = 6;

const waiting = [];
let busy = 0;

// job: {file, onStart(), onProgress(share), onBusy(), onAnswer(answer), onError(error), isDropped}
export function enqueue(job) {
  waiting.push(job);
  next();
}

export function forget() {
  waiting.length = 0;
}

function next() {
  while (busy < AT_ONCE && waiting.length) {
    busy += 1;
    run(waiting.shift()).finally(() => {
      busy -= 1;
      next();
    });
  }
}

async function run(job) {
  for (let attempt = 1; !job.isDropped; attempt += 1) {
    job.onStart();
    const reply = await post(job);
    if (job.isDropped) return;
    if (reply.status === 429 && attempt < TRIES) {
      job.onBusy();
      await pause(reply.retryAfterS * attempt);
    } else if (reply.status === 200 || reply.status === 202) {
      const [answer] = reply.body.predictions;
      if (answer.state === "pending") return job.onError({ code: "client", message: peopleDecide(answer) });
      return answer.error ? job.onError(answer.error) : job.onAnswer(answer);
    } else {
      return job.onError(reply.body);
    }
  }
}

function peopleDecide(answer) {
  return `A person decides this picture while the model is rolled out. Its label will be at ${answer.href.slice(1)}.`;
}

// XMLHttpRequest, because fetch cannot tell how far an upload is. A form of one, because a file that cannot be read
// is then an answer (200) and not a failed request, which the browser's console would show as a fault.
function post(job) {
  return new Promise((resolve) => {
    const request = new XMLHttpRequest();
    const form = new FormData();
    form.append("file", job.file, job.file.name);
    request.open("POST", `predict${document.body.dataset.query}`);
    for (const [name, value] of Object.entries(proof())) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => job.onProgress(event.lengthComputable ? event.loaded / event.total : 0);
    request.upload.onload = () => job.onProgress(1);
    request.onload = () => resolve({
      status: request.status,
      retryAfterS: Number(request.getResponseHeader("Retry-After")) || 1,
      body: parse(request),
    });
    request.onerror = request.onabort = request.ontimeout = () => resolve({ status: 0, body: { code: "offline", message: "" } });
    job.abort = () => request.abort();
    request.send(form);
  });
}

// What a signed-in person's requests must carry.
function proof() {
  const { csrf } = document.body.dataset;
  return csrf ? { "X-CSRF-Token": csrf } : {};
}

// A request without a progress: {ok, body}, and never a throw.
export async function ask(path, body, headers = {}) {
  try {
    const reply = await fetch(path, { method: "POST", body, headers: { ...headers, ...proof() } });
    const text = await reply.text();
    return { ok: reply.ok, body: parse({ responseText: text, status: reply.status }) };
  } catch {
    return { ok: false, body: { code: "offline", message: "" } };
  }
}

function parse(request) {
  try {
    return JSON.parse(request.responseText);
  } catch {
    return { code: "unknown", message: `The server answered with status ${request.status} and no explanation.` };
  }
}

function pause(seconds) {
  return new Promise((resolve) => setTimeout(resolve, seconds * 1000));
}
