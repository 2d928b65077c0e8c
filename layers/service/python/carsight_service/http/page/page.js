"use strict";
(() => {
  const MAX_INLINE_BYTES = 4.3e6; // Lambda takes 6 MB of an event, in which the photo is base64
  const MAX_SIDE = 4096; // a photo that has to shrink keeps this many pixels on its longer side
  const ROUTES = { plate: "platerecognition", vin: "v1/vinocr" };
  const AT_ONCE = 3;
  const SVG = "http://www.w3.org/2000/svg";
  const $ = (id) => document.getElementById(id);
  const key = $("key"), status = $("status"), progress = $("progress");
  let queued = 0, done = 0, running = 0;
  const waiting = [];

  // -- small helpers: an element with text; a share as per cent --
  const element = (name, text, className) => {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    if (className) made.className = className;
    return made;
  };
  const percent = (share) => `${(share * 100).toFixed(1)} %`;
  const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
  const api = () => document.querySelector("input[name=api]:checked").value;

  key.value = sessionStorage.getItem("key") || "";
  key.addEventListener("change", () => {
    sessionStorage.setItem("key", key.value.trim());
    showUsage();
  });
  $("settings").addEventListener("submit", (event) => event.preventDefault());
  for (const radio of document.querySelectorAll("input[name=api]"))
    radio.addEventListener("change", () => { $("regions-field").hidden = api() !== "plate"; });

  // -- ways for photos to come in --
  $("choose").addEventListener("click", () => $("files").click());
  $("take").addEventListener("click", () => $("camera").click());
  for (const input of [$("files"), $("camera")])
    input.addEventListener("change", () => { add([...input.files]); input.value = ""; });
  const drop = $("drop");
  document.addEventListener("dragover", (event) => { event.preventDefault(); drop.classList.add("over"); });
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) drop.classList.remove("over"); });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    add([...event.dataTransfer.files]);
  });
  document.addEventListener("paste", (event) => {
    const files = [...event.clipboardData.files];
    if (files.length) { event.preventDefault(); add(files); }
  });

  function add(files) {
    if (!files.length) return;
    if (!key.value.trim()) {
      status.textContent = "Enter your API key first: it says whose allowance a reading counts against.";
      key.focus();
      return;
    }
    sessionStorage.setItem("key", key.value.trim());
    const wanted = { api: api(), key: key.value.trim(), regions: api() === "plate" ? $("regions").value : "" };
    for (const file of files) waiting.push({ file, ...wanted, card: newCard(file) });
    queued += files.length;
    tell();
    while (running < AT_ONCE && waiting.length) next();
  }

  async function next() {
    const job = waiting.shift();
    running += 1;
    try {
      await read(job);
    } catch (error) {
      fail(job.card, `This photo could not be sent: ${error.message}.`);
    }
    running -= 1;
    done += 1;
    tell();
    if (waiting.length) next();
    else if (!running) { queued = done = 0; showUsage(); }
  }

  function tell() {
    progress.hidden = queued < 2 || done === queued;
    progress.max = queued || 1;
    progress.value = done;
    status.textContent = done < queued ? `Reading: ${done} of ${queued} done.`
      : queued === 1 ? "Read 1 photo." : `Read ${queued} photos.`;
  }

  // -- one photo --
  function newCard(file) {
    const card = $("reading").content.firstElementChild.cloneNode(true);
    card.querySelector("h2").textContent = file.name || "Pasted photo";
    card.querySelector(".outcome").textContent = "Waiting.";
    const image = card.querySelector("img");
    image.alt = `The photo ${file.name || "that was pasted"}`;
    image.addEventListener("error", () => card.querySelector(".photo").classList.add("blank"));
    image.src = URL.createObjectURL(file);
    card.addEventListener("click", (event) => {
      const what = event.target.dataset.copy;
      if (what) navigator.clipboard.writeText(card.querySelector(`.${what}`).textContent);
    });
    $("readings").prepend(card);
    return card;
  }

  /** `file`, or a smaller JPEG of it where it is too large to be sent in a request. */
  async function fitting(file) {
    if (file.size <= MAX_INLINE_BYTES) return { body: file, note: "" };
    let bitmap;
    try {
      bitmap = await createImageBitmap(file);
    } catch {
      throw new Error("it is larger than 4.3 MB, and this browser cannot make it smaller; use /v1/uploads");
    }
    let zoom = Math.min(1, MAX_SIDE / Math.max(bitmap.width, bitmap.height)), body;
    do {
      const canvas = document.createElement("canvas");
      canvas.width = Math.round(bitmap.width * zoom);
      canvas.height = Math.round(bitmap.height * zoom);
      canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
      body = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.9));
      zoom *= 0.7;
    } while (body.size > MAX_INLINE_BYTES);
    return { body, note: " Sent smaller than it is, since it is larger than 4.3 MB." };
  }

  async function read(job) {
    const outcome = job.card.querySelector(".outcome");
    outcome.textContent = "Reading.";
    const { body, note } = await fitting(job.file);
    const query = new URLSearchParams();
    for (const code of job.regions.split(/[\s,]+/)) if (code) query.append("regions", code.toLowerCase());
    const path = ROUTES[job.api] + (query.size ? `?${query}` : "");
    const url = new URL(path, document.baseURI).href;
    job.card.querySelector(".curl").textContent =
      `curl -H "x-api-key: $KEY" -F ${quoted(`upload=@${job.file.name || "photo.jpg"}`)} ${quoted(url)}`;
    const start = performance.now();
    const response = await fetch(path, {
      method: "POST", body,
      headers: { "x-api-key": job.key, "content-type": body.type || "application/octet-stream" },
    });
    const answer = await response.json();
    const seconds = ((performance.now() - start) / 1000).toFixed(2);
    job.card.querySelector(".json").textContent = JSON.stringify(answer, null, 2);
    if (!answer.success) {
      fail(job.card, [answer.message, answer.detail].filter(Boolean).join(" — ") + note);
      return;
    }
    outcome.textContent = `Read in ${seconds} s, ${Math.round(answer.processing_time)} ms of them by the reader.${note}`;
    (job.api === "plate" ? showPlates : showVin)(job.card, answer);
  }

  function fail(card, sentence) {
    const outcome = card.querySelector(".outcome");
    outcome.textContent = sentence;
    outcome.classList.add("failed");
  }

  // -- what was found --
  function drawing(card, size) {
    const svg = card.querySelector("svg");
    svg.setAttribute("viewBox", `0 0 ${size.width} ${size.height}`);
    const put = (name, attributes) => {
      const shape = document.createElementNS(SVG, name);
      for (const [attribute, value] of Object.entries(attributes)) shape.setAttribute(attribute, value);
      svg.append(shape);
    };
    return {
      box: (box, kind) => put("rect", {
        class: kind, x: box.xmin, y: box.ymin, width: box.xmax - box.xmin, height: box.ymax - box.ymin,
      }),
      corners: (points) => put("polygon", {
        class: "corners", points: points.map((p) => (Array.isArray(p) ? p.join() : `${p.x},${p.y}`)).join(" "),
      }),
    };
  }

  function candidateTable(caption, rows) {
    const table = element("table");
    table.append(element("caption", caption));
    for (const row of rows) {
      const line = table.insertRow();
      for (const cell of row) line.append(element("td", cell));
    }
    return table;
  }

  function showPlates(card, answer) {
    const draw = drawing(card, answer.image), list = element("ol"), found = card.querySelector(".found");
    if (!answer.results.length) found.append(element("p", "No plates detected."));
    for (const plate of answer.results) {
      draw.box(plate.box, "plate");
      if (plate.polygon) draw.corners(plate.polygon);
      const item = element("li"), vehicle = plate.vehicle;
      item.append(element("span", plate.plate.toUpperCase(), "text"));
      item.append(element("p", `Right with ${percent(plate.score)}, a plate with ${percent(plate.dscore)}; `
        + `region ${plate.region.code} with ${percent(plate.region.score)}.`));
      if (vehicle.score > 0) {
        draw.box(vehicle.box, "vehicle");
        const words = [vehicle.color, vehicle.type, vehicle.orientation && `seen from the ${vehicle.orientation}`];
        item.append(element("p", `Vehicle: ${words.filter(Boolean).join(", ")}, with ${percent(vehicle.score)}.`));
      }
      item.append(candidateTable("Candidates", plate.candidates.map((c) => [c.plate.toUpperCase(), percent(c.score)])));
      list.append(item);
    }
    if (answer.results.length) found.append(list);
  }

  function showVin(card, answer) {
    const draw = drawing(card, answer.image), found = card.querySelector(".found");
    draw.box(answer.box, "plate");
    found.append(element("span", answer.vin, "text"));
    const digit = answer.check_digit.valid ? "The check digit holds."
      : answer.check_digit.applies ? "The check digit does not hold." : "Its maker need not keep a check digit.";
    const source = { text: "the printed line", barcode: "the barcode", both: "the printed line and the barcode" };
    found.append(element("p", `Right with ${percent(answer.confidence)}, read from ${source[answer.source]}. ${digit}`));
    for (const repair of answer.repairs)
      found.append(element("p", `Character ${repair.position}: ${repair.from} read as ${repair.to} (${repair.reason}).`));
    found.append(candidateTable("Candidates", answer.candidates.map((c) => [c.vin, percent(c.confidence)])));
  }

  // -- usage --
  async function showUsage() {
    const section = $("usage");
    if (!key.value.trim()) { section.hidden = true; return; }
    let report;
    try {
      report = await (await fetch("v1/usage", { headers: { "x-api-key": key.value.trim() } })).json();
    } catch {
      section.hidden = true;
      return;
    }
    const words = { plate_image_recognition: "Plates", vin_optical_character_recognition: "VINs" };
    const shown = [];
    if (report.success === false) shown.push(element("p", report.message, "failed"));
    for (const usage of report.usage || []) {
      const over = usage.overage ? "; more is served and counted" : "";
      const text = `${words[usage.api] || usage.api}: ${usage.current} of ${usage.limit} used, ${usage.period}${over}.`;
      const meter = element("meter", text);
      meter.max = Math.max(usage.limit, 1);
      meter.value = Math.min(usage.current, meter.max);
      meter.setAttribute("aria-label", text);
      shown.push(element("p", text), meter);
    }
    section.replaceChildren(...shown);
    section.hidden = !shown.length;
  }

  showUsage();
})();
