// A camera to drag around the object. World: z up, the photo's camera at azimuth 0, as in the package.
// props.value: {azimuth, elevation, distance, photo}; events: 'grab', 'drag', 'release'.
const canvas = element.querySelector("canvas");
const where = element.querySelector(".where");
const RADIUS = 1.85, FARTHEST = 0.7, PREVIEW_EVERY = 150, KEYS_REST = 350; // scene units, ms
const STAND = { azimuth: 35, elevation: 24 }; // where we look from, degrees
const INK = "#2563eb", PHOTO_INK = "#c2410c";
const picture = new Image();
const pointers = new Map();
let scale = 1, lastTold = 0, waiting = null, resting = null;

const radians = (degrees) => (degrees * Math.PI) / 180;
const clamp = (x, low, high) => Math.min(high, Math.max(low, x));
const wrapped = (turn) => ((((turn + 180) % 360) + 360) % 360) - 180;
const minus = (a, b) => a.map((x, i) => x - b[i]);
const along = (a, t, b) => a.map((x, i) => x + t * b[i]);

function seat(azimuth, elevation, radius) {
  const a = radians(azimuth), e = radians(elevation);
  return [radius * Math.cos(e) * Math.cos(a), radius * Math.cos(e) * Math.sin(a), radius * Math.sin(e)];
}

function axes(azimuth, elevation) { // of a camera there that looks at the middle
  const a = radians(azimuth), e = radians(elevation);
  return {
    right: [-Math.sin(a), Math.cos(a), 0],
    up: [-Math.sin(e) * Math.cos(a), -Math.sin(e) * Math.sin(a), Math.cos(e)],
    back: [Math.cos(e) * Math.cos(a), Math.cos(e) * Math.sin(a), Math.sin(e)],
  };
}

const stand = axes(STAND.azimuth, STAND.elevation);
const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
const middle = () => canvas.width / 2;
const onScreen = (p) => [middle() + scale * dot(p, stand.right), canvas.height / 2 - scale * dot(p, stand.up)];
const isNear = (p) => dot(p, stand.back) >= 0;

function line(pen, points, ink, width) {
  pen.strokeStyle = ink;
  pen.lineWidth = width * devicePixelRatio;
  for (let i = 1; i < points.length; i++) {
    pen.globalAlpha = isNear(points[i]) ? 0.55 : 0.18;
    pen.beginPath();
    pen.moveTo(...onScreen(points[i - 1]));
    pen.lineTo(...onScreen(points[i]));
    pen.stroke();
  }
  pen.globalAlpha = 1;
}

function circle(at) {
  return Array.from({ length: 73 }, (_, i) => at(i * 5));
}

function corners(azimuth, elevation, radius, depth, half) { // of a camera's picture plane
  const { right, up, back } = axes(azimuth, elevation);
  const front = along(seat(azimuth, elevation, radius), -depth, back);
  return [[-1, 1], [1, 1], [1, -1], [-1, -1]].map(([x, y]) => along(along(front, x * half, right), y * half, up));
}

function drawCamera(pen, azimuth, elevation, radius, ink, image) {
  const eye = seat(azimuth, elevation, radius);
  const plane = corners(azimuth, elevation, radius, 0.55, 0.27);
  const flat = plane.map(onScreen);
  pen.globalAlpha = isNear(eye) ? 1 : 0.55;
  if (image) { // an affine map does, for we look from far away
    const [o, x, , y] = flat, size = image.naturalWidth;
    pen.save();
    pen.setTransform((x[0] - o[0]) / size, (x[1] - o[1]) / size, (y[0] - o[0]) / size, (y[1] - o[1]) / size, ...o);
    pen.drawImage(image, 0, 0);
    pen.restore();
  }
  pen.strokeStyle = pen.fillStyle = ink;
  pen.lineWidth = 2 * devicePixelRatio;
  pen.lineJoin = "round";
  pen.beginPath();
  flat.forEach((corner, i) => (i ? pen.lineTo(...corner) : pen.moveTo(...corner)));
  pen.closePath();
  for (const corner of flat) {
    pen.moveTo(...onScreen(eye));
    pen.lineTo(...corner);
  }
  pen.stroke();
  pen.beginPath();
  pen.arc(...onScreen(eye), 5 * devicePixelRatio, 0, 7);
  pen.fill();
  pen.globalAlpha = 1;
}

function draw() {
  const { width, height } = canvas.getBoundingClientRect();
  if (!width) return;
  canvas.width = width * devicePixelRatio;
  canvas.height = height * devicePixelRatio;
  scale = Math.min(canvas.width, canvas.height) / 2 / (RADIUS + 0.4);
  const pen = canvas.getContext("2d"), ink = getComputedStyle(canvas).color;
  const { azimuth, elevation, distance } = props.value, radius = RADIUS + distance;
  for (const up of [-60, -30, 0, 30, 60]) line(pen, circle((turn) => seat(turn, up, RADIUS)), ink, up ? 0.6 : 1.4);
  for (let turn = 0; turn < 180; turn += 30) line(pen, circle((up) => seat(turn, up, RADIUS)), ink, 0.6);
  line(pen, [seat(azimuth, elevation, radius), [0, 0, 0]], INK, 1);
  pen.fillStyle = ink;
  pen.beginPath();
  pen.arc(...onScreen([0, 0, 0]), 3 * devicePixelRatio, 0, 7);
  pen.fill();
  const both = [
    { at: seat(0, 0, RADIUS), paint: () => drawCamera(pen, 0, 0, RADIUS, PHOTO_INK, picture.naturalWidth && picture) },
    { at: seat(azimuth, elevation, radius), paint: () => drawCamera(pen, azimuth, elevation, radius, INK) },
  ];
  both.sort((a, b) => dot(a.at, stand.back) - dot(b.at, stand.back)).forEach(({ paint }) => paint());
  const said = `azimuth ${azimuth}°, elevation ${elevation}°, distance ${distance.toFixed(2)}`;
  where.textContent = said;
  canvas.setAttribute("aria-valuenow", azimuth);
  canvas.setAttribute("aria-valuetext", said);
}

function go(azimuth, elevation, distance) {
  const to = {
    azimuth: Math.round(wrapped(azimuth)),
    elevation: Math.round(clamp(elevation, -90, 90)),
    distance: Math.round(clamp(distance, -FARTHEST, FARTHEST) * 100) / 100,
  };
  props.value = { ...props.value, ...to };
  draw();
}

function tellSoon() { // previews at most every so often, and of the last place for sure
  clearTimeout(waiting);
  const since = performance.now() - lastTold;
  waiting = setTimeout(() => {
    lastTold = performance.now();
    trigger("drag");
  }, Math.max(0, PREVIEW_EVERY - since));
}

function release() {
  clearTimeout(waiting);
  trigger("release");
}

canvas.addEventListener("pointerdown", (event) => {
  canvas.setPointerCapture(event.pointerId);
  pointers.set(event.pointerId, [event.clientX, event.clientY]);
  if (pointers.size === 1) trigger("grab");
});
const apart = ([a, b]) => Math.hypot(a[0] - b[0], a[1] - b[1]);
canvas.addEventListener("pointermove", (event) => {
  const before = pointers.get(event.pointerId);
  if (!before) return;
  const gap = pointers.size === 2 && apart([...pointers.values()]);
  pointers.set(event.pointerId, [event.clientX, event.clientY]);
  const { azimuth, elevation, distance } = drift;
  if (gap) { // two fingers: nearer and farther
    move(azimuth, elevation, distance - (apart([...pointers.values()]) - gap) / 200);
  } else if (pointers.size === 1) {
    const turn = 180 / canvas.getBoundingClientRect().width;
    move(azimuth + (event.clientX - before[0]) * turn, elevation - (event.clientY - before[1]) * turn, distance);
  }
});
let drift = { azimuth: 0, elevation: 0, distance: 0 }; // not rounded, so that slow drags add up
function move(azimuth, elevation, distance) {
  drift = { azimuth, elevation: clamp(elevation, -90, 90), distance: clamp(distance, -FARTHEST, FARTHEST) };
  go(drift.azimuth, drift.elevation, drift.distance);
  tellSoon();
}
for (const ending of ["pointerup", "pointercancel"]) {
  canvas.addEventListener(ending, (event) => {
    if (pointers.delete(event.pointerId) && !pointers.size) release();
  });
}
canvas.addEventListener("keydown", (event) => {
  const { azimuth, elevation, distance } = props.value, by = event.shiftKey ? 15 : 5;
  const places = {
    ArrowLeft: [azimuth - by, elevation, distance], ArrowRight: [azimuth + by, elevation, distance],
    ArrowUp: [azimuth, elevation + by, distance], ArrowDown: [azimuth, elevation - by, distance],
    "+": [azimuth, elevation, distance - 0.1], "-": [azimuth, elevation, distance + 0.1], Home: [0, 0, 0],
  };
  if (!places[event.key]) return;
  event.preventDefault();
  go(...places[event.key]);
  drift = { ...props.value };
  tellSoon();
  clearTimeout(resting);
  resting = setTimeout(release, KEYS_REST);
});
element.querySelector(".presets").addEventListener("click", (event) => {
  const { turn, climb } = event.target.dataset;
  if (turn === undefined) return;
  trigger("grab");
  go(Number(turn), Number(climb), props.value.distance);
  drift = { ...props.value };
  release();
});
picture.addEventListener("load", draw);
function show() { // the fields or the server have set the value
  drift = { ...props.value };
  if (props.value.photo !== picture.getAttribute("src")) {
    if (props.value.photo) picture.src = props.value.photo;
    else picture.removeAttribute("src");
  }
  draw();
}
watch("value", show);
new ResizeObserver(draw).observe(canvas);
show();
