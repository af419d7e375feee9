const about = JSON.parse(document.getElementById("about").textContent);
const byId = (id) => document.getElementById(id);

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes))
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== false) made.setAttribute(name, value === true ? "" : value);
  made.append(...children);
  return made;
}

/* The samples are stored as what differs from the mode, of which there is less to say. */
function unfold(bytes) {
  const { tensors, data } = split(bytes);
  for (const { dtype, shape, data_offsets: [begin, end] } of Object.values(tensors))
    if (dtype === "U8")
      for (let i = begin + shape[1]; i < end; i++) data[i] ^= data[begin + ((i - begin) % shape[1])];
  return bytes;
}

const exact = (nats, text) => element("span", { title: nats.toPrecision(9) }, `${nats.toFixed(3)} nats ${text}`);
const name = (label) => about.classes[label] ?? String(label);
let net;

/* ---- the answer ---- */

function fail(message) {
  byId("verdict").dataset.level = "error";
  byId("verdict").replaceChildren(element("p", { class: "error" }, message));
  byId("answer").hidden = true;
}

function judge(p) {
  const own = p.votes.filter((vote) => vote === p.label).length;
  const agree = net.numSamples ? `${own} of ${p.votes.length} networks say ${name(p.label)}.` : "";
  if (about.unseen !== null && p.mutualInformation > about.unseen)
    return ["unseen", "never seen this", `The networks disagree more than on 99 of 100 inputs of the kind that they learned. ${agree}`];
  if (p.probs[p.label] < about.unsure)
    return ["unsure", "unsure", `Another class is possible: ${(100 * (1 - p.probs[p.label])).toFixed(0)} % for the others together. ${agree}`];
  return ["sure", "sure", agree];
}

function show(x) {
  let p;
  try {
    p = net.predict(x);
  } catch (error) {
    return fail(error.message);
  }
  const [level, how, why] = judge(p);
  byId("verdict").dataset.level = level;
  byId("verdict").replaceChildren(
    element("p", { class: "class" }, name(p.label)), element("p", { class: "how" }, how), element("p", { class: "quiet" }, why));
  const order = p.probs.map((_, k) => k);
  if (order.length > 10) order.sort((a, b) => p.probs[b] - p.probs[a]).splice(10);
  byId("probs").tBodies[0].replaceChildren(...order.map((k) => {
    const bar = element("div");
    bar.style.width = `${100 * p.probs[k]}%`;
    return element("tr", k === p.label ? { class: "best" } : {}, element("th", { scope: "row" }, name(k)),
      element("td", { class: "bar", "aria-hidden": "true" }, bar),
      element("td", { class: "number", title: p.probs[k].toPrecision(9) }, `${(100 * p.probs[k]).toFixed(1)} %`));
  }));
  byId("votes").replaceChildren(...p.votes.map((vote, s) => element("li", vote === p.label ? {} : { class: "other" },
    element("b", {}, name(vote)), element("span", {}, `${(100 * p.networks[s][vote]).toFixed(0)} %`))));
  byId("uncertainty").replaceChildren(...pairs([
    ["Entropy", exact(p.entropy, `of at most ${Math.log(p.probs.length).toFixed(3)}`)],
    ...(net.numSamples ? [["Disagreement of the networks", exact(p.mutualInformation, "(mutual information)" +
      (about.unseen === null ? "" : `; 1 in 100 known inputs has more than ${about.unseen.toFixed(3)}`))]] : []),
  ]));
  byId("answer").hidden = false;
}

const pairs = (rows) => rows.flatMap(([term, text]) => [element("dt", {}, term), element("dd", {}, text)]);

/* ---- images ---- */

const SCALE = 10; // pixels of the paper for one of the network

function imageInput(root) {
  const [channels, height, width] = net.inputShape, gray = channels === 1;
  const ink = about.lightInk ? "#fff" : "#000", blank = about.lightInk ? "#000" : "#fff";
  const canvas = (w, h, attributes = {}) => element("canvas", { width: w, height: h, ...attributes });
  const context = (of) => of.getContext("2d", { willReadFrequently: true });
  const paper = canvas(width * SCALE, height * SCALE, { id: "paper", tabindex: 0, role: "img", "aria-describedby": "paper-help",
    "aria-label": gray ? "Paper to draw on" : "The picture" });
  const small = canvas(width, height, { id: "seen", role: "img", "aria-label": "The picture as the network sees it" });
  const pen = context(paper), pixels = context(small);
  const centre = element("input", { type: "checkbox", checked: true, onchange: () => drawn && readDrawing() });
  const invert = element("input", { type: "checkbox", onchange: () => last && readPicture(...last) });
  let drawn = false, last = null, previous = null, stream = null;

  function clear() {
    pen.fillStyle = blank, pen.fillRect(0, 0, paper.width, paper.height);
    pixels.fillStyle = blank, pixels.fillRect(0, 0, width, height);
    drawn = false, last = null, previous = null;
    byId("answer").hidden = true, delete byId("verdict").dataset.level;
    byId("verdict").replaceChildren(element("p", { class: "quiet" }, gray ? "Draw something." : "Choose a picture."));
  }

  /* values in the units of the data, channel by channel; gray and transparency as Pillow has them */
  function predict() {
    const { data } = pixels.getImageData(0, 0, width, height), area = width * height, x = new Float32Array(net.numInputs);
    for (let i = 0; i < area; i++) {
      const [r, g, b] = [data[4 * i], data[4 * i + 1], data[4 * i + 2]];
      const values = gray ? [(r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16] : [r, g, b];
      values.forEach((v, c) => (x[c * area + i] = about.low + (v / 255) * (about.high - about.low)));
    }
    show(x);
  }

  /* the drawing, 20 of 28 pixels large and with its centre of mass in the middle, as MNIST's digits are */
  function readDrawing() {
    const { data } = pen.getImageData(0, 0, paper.width, paper.height);
    let [left, top, right, bottom, mass, cx, cy] = [paper.width, paper.height, -1, -1, 0, 0, 0];
    for (let y = 0, i = 0; y < paper.height; y++)
      for (let x = 0; x < paper.width; x++, i += 4) {
        const v = about.lightInk ? data[i] : 255 - data[i];
        if (v > 64) left = Math.min(left, x), right = Math.max(right, x), top = Math.min(top, y), bottom = Math.max(bottom, y);
        mass += v, cx += v * x, cy += v * y;
      }
    if (right < 0) return clear();
    pixels.fillStyle = blank, pixels.fillRect(0, 0, width, height);
    pixels.imageSmoothingEnabled = true, pixels.imageSmoothingQuality = "high";
    const size = Math.max(right - left, bottom - top) + 1;
    const scale = centre.checked ? ((20 / 28) * Math.min(width, height)) / size : 1 / SCALE;
    const [dx, dy] = centre.checked ? [width / 2 - (cx / mass + 0.5) * scale, height / 2 - (cy / mass + 0.5) * scale] : [0, 0];
    pixels.drawImage(paper, dx, dy, paper.width * scale, paper.height * scale);
    predict();
  }

  /* a picture as it is if it has the network's size, else its middle square (or whatever shape) of that size */
  function readPicture(picture, w, h) {
    last = [picture, w, h], drawn = false;
    const scale = Math.max(width / w, height / h), [sw, sh] = [width / scale, height / scale];
    pixels.fillStyle = "#fff", pixels.fillRect(0, 0, width, height);
    pixels.imageSmoothingEnabled = w !== width || h !== height, pixels.imageSmoothingQuality = "high";
    pixels.filter = invert.checked ? "invert(1)" : "none";
    pixels.drawImage(picture, (w - sw) / 2, (h - sh) / 2, sw, sh, 0, 0, width, height);
    pixels.filter = "none";
    pen.imageSmoothingEnabled = false;
    pen.drawImage(small, 0, 0, paper.width, paper.height);
    predict();
  }

  async function readFile(file) {
    if (!file) return;
    stopCamera();
    try {
      const picture = await createImageBitmap(file, { colorSpaceConversion: "none" });
      readPicture(picture, picture.width, picture.height);
    } catch {
      fail(`${file.name} is no picture that this browser can read: choose a PNG or JPEG file.`);
    }
  }

  function stroke(x, y, down) {
    pen.strokeStyle = pen.fillStyle = ink, pen.lineWidth = about.pen * SCALE * (Math.min(width, height) / 28), pen.lineCap = pen.lineJoin = "round";
    pen.beginPath();
    if (down || !previous) pen.arc(x, y, pen.lineWidth / 2, 0, 7), pen.fill();
    else pen.moveTo(...previous), pen.lineTo(x, y), pen.stroke();
    previous = [x, y], drawn = true, last = null;
  }

  const place = (event) => {
    const box = paper.getBoundingClientRect();
    return [((event.clientX - box.left) * paper.width) / box.width, ((event.clientY - box.top) * paper.height) / box.height];
  };
  if (gray) {
    let active = null, cursor = [paper.width / 2, paper.height / 2], down = false;
    paper.addEventListener("pointerdown", (event) => {
      if (active !== null || event.button) return;
      if (last) clear();
      active = event.pointerId;
      try { paper.setPointerCapture(active); } catch { /* a pointer that has gone already */ }
      stroke(...place(event), true), readDrawing();
    });
    paper.addEventListener("pointermove", (event) => {
      if (event.pointerId !== active) return;
      for (const part of event.getCoalescedEvents?.().length ? event.getCoalescedEvents() : [event]) stroke(...place(part), false);
      readDrawing();
    });
    for (const end of ["pointerup", "pointercancel"]) paper.addEventListener(end, (event) => {
      if (event.pointerId === active) active = previous = null;
    });
    paper.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      if (event.key === " ") down = !down, previous = null;
      else if (step) cursor = cursor.map((at, i) => Math.min(Math.max(at + step[i] * SCALE, 0), (i ? paper.height : paper.width) - 1));
      else return;
      event.preventDefault();
      if (down && last) clear();
      if (down) stroke(...cursor, !previous), readDrawing();
      help.textContent = `${HELP} Pen ${down ? "down" : "up"} at column ${Math.round(cursor[0] / SCALE)}, row ${Math.round(cursor[1] / SCALE)}.`;
    });
  }
  const HELP = gray ? "Draw with mouse or finger; or with the keyboard: arrow keys move the pen, the space bar puts it down and lifts it." :
    "Drop a picture here, or choose one below.";
  const help = element("p", { id: "paper-help", class: "quiet" }, HELP);
  for (const kind of ["dragover", "drop"]) document.addEventListener(kind, (event) => {
    event.preventDefault();
    if (kind === "drop") readFile(event.dataTransfer.files[0]);
  });

  const video = element("video", { id: "camera", playsinline: true, muted: true, hidden: true, "aria-label": "The camera's picture" });
  const cameraButton = element("button", { type: "button", onclick: () => (stream ? stopCamera() : startCamera()) }, "Use the camera");
  function stopCamera() {
    stream?.getTracks().forEach((track) => track.stop());
    stream = null, video.hidden = true, paper.hidden = false, cameraButton.textContent = "Use the camera";
  }
  async function startCamera() {
    try {
      stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    } catch (error) {
      return fail(`The camera cannot be used (${error.message}).`);
    }
    video.srcObject = stream, video.hidden = false, paper.hidden = true, cameraButton.textContent = "Stop the camera";
    await video.play();
    while (stream) {
      readPicture(video, video.videoWidth, video.videoHeight);
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }

  root.append(paper, video, help, element("div", { class: "row" },
    element("button", { type: "button", onclick: () => (stopCamera(), clear()) }, "Clear"),
    element("label", { class: "button" }, "Open a picture", element("input", { type: "file", accept: "image/*",
      onchange: (event) => (readFile(event.target.files[0]), (event.target.value = "")) })),
    ...(navigator.mediaDevices?.getUserMedia ? [cameraButton] : [])));
  showExamples((x) => {
    const area = width * height, image = new ImageData(width, height);
    for (let i = 0; i < area; i++)
      for (let c = 0; c < 4; c++)
        image.data[4 * i + c] = c === 3 ? 255 : Math.round((255 * (x[(gray ? 0 : c) * area + i] - about.low)) / (about.high - about.low));
    const picture = canvas(width, height);
    context(picture).putImageData(image, 0, 0);
    return picture;
  }, (x, picture) => (stopCamera(), (invert.checked = false), readPicture(picture, width, height), show(x)));
  byId("more-part").hidden = false;
  byId("more").append(
    ...(gray ? [element("label", { class: "check" }, centre, "Centre the drawing")] : []),
    element("label", { class: "check" }, invert, "Invert pictures"),
    element("div", { class: "row whole" }, small, element("span", { class: "quiet" }, `What the network sees: ${width} × ${height} pixels`)));
  clear();
}

/* ---- numbers ---- */

function formInput(root) {
  const fields = about.features.map((feature, i) => element("input",
    { type: "number", step: "any", id: `feature-${i}`, required: true, value: about.typical[i] ?? 0, oninput: read }));
  function read() {
    const wrong = fields.findIndex((field) => !field.validity.valid);
    if (wrong >= 0) return fail(`${about.features[wrong]} needs a number.`);
    show(Float32Array.from(fields, (field) => Number(field.value)));
  }
  if (about.prepared)
    root.append(element("p", { class: "quiet" }, "These are the numbers that the network takes, made from the columns of its table as in training: scaled, and 0 or 1 for words. They are not in the table's own units."));
  root.append(element("form", { class: "form", onsubmit: (event) => event.preventDefault() },
    ...fields.flatMap((field, i) => [element("label", { for: field.id }, about.features[i]), field])));
  showExamples(null, (x) => (fields.forEach((field, i) => (field.value = +x[i].toPrecision(7))), read()));
  read();
}

function numbersInput(root) {
  const box = element("textarea", { id: "numbers", "aria-describedby": "numbers-help", spellcheck: "false", oninput: read });
  function read() {
    const words = box.value.split(/[\s,;]+/).filter(Boolean), wrong = words.find((word) => !Number.isFinite(Number(word)));
    if (wrong) return fail(`“${wrong}” is no number.`);
    if (words.length !== net.numInputs) return fail(`${net.numInputs} numbers are needed, these are ${words.length}.`);
    show(Float32Array.from(words, Number));
  }
  root.append(element("label", { for: "numbers" }, "Numbers"), box,
    element("p", { id: "numbers-help", class: "quiet" }, `${net.inputShape.join(" × ")} numbers, separated by spaces, commas or lines.`));
  showExamples(null, (x) => ((box.value = Array.from(x, (v) => +v.toPrecision(7)).join(" ")), read()));
  byId("verdict").replaceChildren(element("p", { class: "quiet" }, "Enter the numbers."));
}

let examples = [];

function showExamples(draw, use) {
  if (!examples.length) return;
  byId("more-part").hidden = false;
  byId("more").append(element("p", { class: "quiet", id: "examples-title" }, "Inputs that the network has not learned from:"),
    element("div", { class: "examples", role: "group", "aria-labelledby": "examples-title" }, ...examples.map((x, i) => {
      const picture = draw?.(x), title = `Example ${i + 1}`;
      return element("button", { type: "button", onclick: () => use(x, picture), ...(picture ? { "aria-label": title } : { class: "words" }) }, picture ?? title);
    })));
}

/* ---- begin ---- */

try {
  if (typeof DecompressionStream === "undefined") throw new Error("it is older than March 2023, update it");
  net = await load(unfold(await inflate(fromBase64(byId("network").textContent))));
  const flat = new Float32Array((await inflate(fromBase64(about.examples))).buffer);
  examples = Array.from({ length: flat.length / net.numInputs }, (_, i) => flat.subarray(i * net.numInputs, (i + 1) * net.numInputs));
  byId("votes-part").hidden = !net.numSamples;
  byId("votes-title").textContent = `What each of ${net.numSamples} networks says`;
  byId("facts").replaceChildren(...pairs(about.facts));
  const images = net.inputShape.length === 3 && [1, 3].includes(net.inputShape[0]);
  (images ? imageInput : about.features.length ? formInput : numbersInput)(byId("input"));
} catch (error) {
  fail(`The network cannot run in this browser: ${error.message}`);
}
