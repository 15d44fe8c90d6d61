// Three things to move: the layer at which scale is read, the number of training images, the factor of a manipulation.
// Their numbers stand in the page as JSON that a build took from tables under results/. Without this script the figure
// above each of them is its still; in print it is what was last looked at.
document.addEventListener("DOMContentLoaded", () => {
  const SVG = "http://www.w3.org/2000/svg";
  const HEIGHT = 270;
  const fixed = (value, digits = 2) => value.toFixed(digits).replace("-", "−");
  const whole = (value) => value.toLocaleString("en").replace("-", "−");
  const percent = (value) => `${(100 * value).toFixed(0)}\u00a0%`;
  const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

  const html = (name, attributes, ...children) => fill(document.createElement(name), attributes, children);
  const svg = (name, attributes, ...children) => fill(document.createElementNS(SVG, name), attributes, children);
  function fill(element, attributes, children) {
    for (const [name, value] of Object.entries(attributes ?? {})) element.setAttribute(name, value);
    element.append(...children);
    return element;
  }

  // A labelled range over a list; `said` puts an entry into words, for eyes and for screen readers.
  function slider(label, said, moved) {
    const id = `move-${label.replace(/\W+/g, "-")}`;
    const input = html("input", { type: "range", id, min: 0, step: 1 });
    const output = html("output", { for: id });
    let entries = [];
    function show() {
      const entry = entries[input.value];
      output.textContent = said(entry);
      input.setAttribute("aria-valuetext", said(entry));
      moved(entry);
    }
    input.addEventListener("input", show);
    const set = (list, start) => {
      entries = list;
      input.max = list.length - 1;
      input.value = start;
    };
    return { set, show, at: () => Number(input.value), row: row(html("label", { for: id }, label), input, output) };
  }

  function choice(label, chosen) {
    const id = `move-${label.replace(/\W+/g, "-")}`;
    const select = html("select", { id });
    select.addEventListener("change", () => chosen(select.selectedIndex));
    const set = (names, start) => {
      select.replaceChildren(...names.map((name) => html("option", {}, name)));
      select.selectedIndex = start;
    };
    return { set, row: row(html("label", { for: id }, label), select) };
  }

  const row = (...children) => html("div", { class: "move-row" }, ...children);

  // Axes with ticks ([value, label]) and their names; `x` and `y` are given as [lowest, highest, how to bend].
  function chart(label, width, { x, y, xTicks, yTicks, xName, yName }) {
    const box = { left: 50, right: width - 14, top: 26, bottom: HEIGHT - 40 };
    const place = ([low, high, bend = (value) => value], from, to) => (value) =>
      from + ((bend(value) - bend(low)) / (bend(high) - bend(low))) * (to - from);
    const px = place(x, box.left, box.right);
    const py = place(y, box.bottom, box.top);
    const size = { width, height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}` };
    const root = svg("svg", { ...size, role: "img", "aria-label": label });
    const text = (words, at) => root.append(svg("text", at, words));
    for (const [value, words] of xTicks) {
      const at = px(value);
      root.append(svg("line", { x1: at, x2: at, y1: box.bottom, y2: box.bottom + 4, class: "move-axis" }));
      const outer = at > box.right - 20 ? "end" : at < box.left + 20 ? "start" : "middle";
      text(words, { x: at, y: box.bottom + 17, "text-anchor": words.length > 5 ? outer : "middle" });
    }
    for (const [value, words] of yTicks) {
      root.append(svg("line", { x1: box.left, x2: box.right, y1: py(value), y2: py(value), class: "move-grid" }));
      text(words, { x: box.left - 6, y: py(value) + 4, "text-anchor": "end" });
    }
    text(xName, { x: (box.left + box.right) / 2, y: HEIGHT - 6, "text-anchor": "middle" });
    text(yName, { x: 4, y: 14 });
    root.append(svg("line", { x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom, class: "move-axis" }));
    const draw = (name, attributes, ...children) => {
      const node = svg(name, attributes, ...children);
      root.append(node);
      return node;
    };
    const path = (points) => points.map(([a, b]) => `${px(a)},${py(b)}`).join(" ");
    const line = (points, style) => draw("polyline", { points: path(points), class: `move-line ${style}` });
    const band = (points, style) => {
      const edge = [...points.map(([a, low]) => [a, low]), ...points.map(([a, , high]) => [a, high]).reverse()];
      draw("polygon", { points: path(edge), class: `move-band ${style}` });
    };
    return { root, box, px, py, draw, line, band };
  }

  // `make` gives a widget's controls and `draw`, which gets the width of a panel: of two abreast where there is room.
  function start(id, make) {
    const place = document.getElementById(id);
    if (!place) return;
    const stage = html("div", { class: "move-stage" });
    const words = html("p", { class: "move-words", "aria-live": "polite" });
    const { controls, draw } = make(JSON.parse(document.getElementById(`${id}-data`).textContent), stage, words);
    place.replaceChildren(html("div", { class: "move-controls" }, ...controls), stage, words);
    place.hidden = false;
    let drawn;
    function redraw() {
      const width = stage.clientWidth;
      if (width !== drawn) draw(width < 600 ? width : (width - 24) / 2);
      drawn = width;
    }
    new ResizeObserver(() => requestAnimationFrame(redraw)).observe(stage); // a page's styles may come after its script
    redraw();
  }

  start("move-layers", (data, stage, words) => {
    const sets = [
      ["InceptionV3 (2015), to mixed8, on photographs", "compact", "InceptionV3", "ImageNet weights"],
      ["control network, on rendered scenes", "control", "control", "trained at all scales"],
    ].map(([name, profile, network, curve]) => {
      const [curves, scales] = ["curves", "read_scales"].map((table) => data[`${profile}/04_layerwise_r2/${table}`]);
      const layers = curves.filter((row) => row[0] === network && row[1] === curve);
      const taps = layers.map((row) => row[2]);
      const rows = taps.map((tap) => scales.filter((row) => row[0] === tap));
      const [images, truth] = [1, 2].map((column) => rows[0].map((row) => row[column]));
      const read = rows.map((layer) => layer.map((row) => row[3]));
      const pictures = profile === "control"; // the first scenes are here as pictures, photographs are not
      return { name, pictures, taps, images, true: truth, read, curve: layers.map((row) => row.slice(3)) };
    });
    const LOW = -0.25; // of both axes of held-out values: what lies beyond stands at the edge
    const HIGH = 1.1;
    const SPLIT = "Points and squares are of images that one split held out, each class by its own regression.";
    const ticks = [0, 0.5, 1].map((value) => [value, String(value)]);
    let set, marks, width;
    const place = (tap) => `${set.taps.indexOf(tap) + 1}\u00a0of\u00a0${set.taps.length}`;
    const layer = slider("layer", (tap) => `${tap} (${place(tap)})`, move);
    const network = choice("network and images", choose);
    network.set(sets.map(({ name }) => name), 0);

    function choose(index) {
      set = sets[index];
      const means = set.curve.map(([, mean]) => mean);
      layer.set(set.taps, means.indexOf(Math.max(...means)));
      if (width) draw(width);
    }

    function draw(wide) {
      width = wide;
      const cut = (value) => clamp(value, LOW, HIGH);
      const y = { y: [LOW, HIGH], yTicks: ticks };
      const scatter = chart("Scale read at this layer against the true scale, a point for each held-out image", width, {
        ...y, x: [0, 1], xTicks: ticks, xName: "true scale of the object", yName: "scale read at this layer",
      });
      scatter.line([[0, 0], [1, 1]], "move-guide");
      const point = (value) => scatter.draw("circle", { cx: scatter.px(value), r: 2.2, class: "move-point" });
      const points = set.true.map(point);
      const last = set.curve.at(-1)[0];
      const curve = chart("R² by layer, with its 95 % interval", width, {
        ...y, x: [0, last], xTicks: [[0, set.taps[0]], [last, set.taps.at(-1)]],
        xName: "layer", yName: "R² on held-out images",
      });
      curve.band(set.curve.map(([depth, , low, high]) => [depth, cut(low), cut(high)]), "move-a");
      curve.line(set.curve.map(([depth, mean]) => [depth, cut(mean)]), "move-a");
      const ring = curve.draw("circle", { r: 6, class: "move-ring" });
      const label = curve.draw("text", { class: "move-strong", "text-anchor": "middle" });
      const frames = examples().map(frame);
      marks = { scatter, points, curve, ring, label, frames, cut };
      const hidden = set.pictures ? "" : " The photographs are not shown.";
      const key = html("p", {}, `Squares: solid, the true scale; dashed, the scale read.${hidden} ${SPLIT}`);
      const row = html("div", { class: "move-frames" }, ...frames.map(({ root }) => root));
      stage.replaceChildren(scatter.root, curve.root, row, key);
      layer.show();
    }

    // Six images, from a small object to a large one; of rendered scenes, six of those that are here as pictures.
    function examples() {
      const rows = [...set.true.keys()].filter((at) => !set.pictures || set.images[at] < data.boxes.length);
      rows.sort((a, b) => set.true[a] - set.true[b]);
      return [0.05, 0.2, 0.4, 0.6, 0.8, 0.95].map((share) => rows[Math.round(share * (rows.length - 1))]);
    }

    function frame(at) {
      const root = svg("svg", { viewBox: "0 0 100 100", role: "img" });
      let [x, y] = [50, 50];
      if (set.pictures) {
        const [scene, width] = [set.images[at], 100 * data.boxes.length];
        const strip = { href: data.pictures, x: -100 * scene, width, height: 100, preserveAspectRatio: "none" };
        root.append(svg("image", strip));
        const [x0, y0, x1, y1] = data.boxes[scene]; // in pixels, of 64
        [x, y] = [(x0 + x1) * (50 / 64), (y0 + y1) * (50 / 64)];
      }
      const squares = svg("g");
      root.append(svg("rect", { width: 100, height: 100, class: "move-frame" }), squares);
      const square = (scale, style) => {
        const side = 100 * scale;
        return svg("rect", { x: x - side / 2, y: y - side / 2, width: side, height: side, class: style });
      };
      return { root, squares, square, at };
    }

    function move(tap) {
      const i = set.taps.indexOf(tap);
      const [depth, mean, low, high] = set.curve[i];
      const { scatter, points, curve, ring, label, frames, cut } = marks;
      points.forEach((point, at) => point.setAttribute("cy", scatter.py(cut(set.read[i][at]))));
      const [cx, cy] = [curve.px(depth), curve.py(cut(mean))];
      fill(ring, { cx, cy }, []);
      fill(label, { x: clamp(cx, curve.box.left + 60, curve.box.right - 60), y: cy - 22 }, []);
      label.textContent = `${tap} ${fixed(mean)}${mean < LOW ? " ▼" : ""}`;
      for (const { root, squares, square, at } of frames) {
        const [truth, read] = [set.true[at], Math.max(0, set.read[i][at])];
        const sides = [[truth, "move-halo"], [read, "move-halo"], [truth, "move-true"], [read, "move-read"]];
        squares.replaceChildren(...sides.map(([side, style]) => square(side, style)));
        root.setAttribute("aria-label", `true scale ${fixed(truth)}, read ${fixed(set.read[i][at])}`);
      }
      const beyond = set.read[i].filter((value) => value !== cut(value)).length;
      const far = beyond ? ` ${beyond} of ${points.length} points lie beyond the axis and stand at its edge.` : "";
      const interval = `95 % interval ${fixed(low)} to ${fixed(high)}`;
      words.textContent = `${tap}: R² ${fixed(mean)} (${interval}), mean over classes.${far}`;
    }

    choose(0);
    return { controls: [network.row, layer.row], draw };
  });

  start("move-peak", (data, stage, words) => {
    const FLOOR = -1e4;
    const KEY = "Lines: median over splits; bands: 10 % to 90 % of them. d: how many dimensions a layer's channels span.";
    // Linear above zero, logarithmic below: a dive to −2 and one to −200 are both seen.
    const bend = (value) => (value >= 0 ? value : -Math.log10(1 - value));
    const networks = new Map(); // by name, then by layer: dimensions, and by estimator [n, median, low, high]
    for (const [panel, tap, estimator, n, ratio, ...values] of Object.values(data).flat()) {
      if (panel.endsWith(", random")) continue;
      const name = panel.replace(", imagenet", "").replace("control,", "control network, trained at");
      if (!networks.has(name)) networks.set(name, new Map());
      const layers = networks.get(name);
      if (!layers.has(tap)) layers.set(tap, { tap, ols: [], ridge: [] });
      layers.get(tap)[estimator].push([n, ...values]);
      layers.get(tap).d = Math.round(n / ratio); // the largest n, which stands last, gives it best
    }
    let layers, sweep, marks, width;
    const images = slider("training images, n", whole, move);
    const network = choice("network", chooseNetwork);
    const layer = choice("layer, d dimensions", chooseLayer);
    const names = [...networks.keys()];
    const first = Math.max(0, names.findIndex((name) => name.startsWith("InceptionV3")));
    network.set(names, first);
    const nearest = (values, wanted) => {
      const away = values.map((value) => Math.abs(value - wanted));
      return away.indexOf(Math.min(...away));
    };

    function chooseNetwork(index) {
      layers = [...networks.get(names[index]).values()];
      const start = nearest(layers.map(({ d }) => d), 256);
      layer.set(layers.map(({ tap, d }) => `${tap}, d = ${whole(d)}`), start);
      chooseLayer(start);
    }

    function chooseLayer(index) {
      sweep = layers[index];
      const sizes = sweep.ols.map(([n]) => n);
      images.set(sizes, Math.max(0, nearest(sizes, sweep.d) - 3));
      if (width) draw(width);
    }

    function draw() {
      width = stage.clientWidth;
      const sizes = sweep.ols.map(([n]) => n);
      const [fewest, most] = [sizes[0], sizes.at(-1)];
      const floor = Math.max(FLOOR, Math.min(-1, ...sweep.ols.map(([, , low]) => low)));
      const ticks = (values, low, high) => values.filter((v) => v >= low && v <= high).map((v) => [v, whole(v)]);
      const label = "Held-out R² of least squares and of ridge against the number of training images";
      const { root, px, py, box, draw: add, line, band } = chart(label, width, {
        x: [fewest, most, Math.log], xTicks: ticks([10, 30, 100, 300, 1000], fewest, most),
        y: [floor, 1, bend], yTicks: ticks([1, 0.5, 0, -1, -10, -100, -1000, FLOOR], floor, 1),
        xName: "training images, n (logarithmic)", yName: "R² on held-out images (logarithmic below 0)",
      });
      if (sweep.d <= most) {
        add("line", { x1: px(sweep.d), x2: px(sweep.d), y1: box.top, y2: box.bottom, class: "move-line move-guide" });
        add("text", { x: px(sweep.d) + 6, y: box.top + 10 }, "n = d");
      }
      const cut = (value) => clamp(value, floor, 1);
      marks = { bars: html("div", { class: "move-bars" }) };
      for (const [name, style, title, dy] of [["ols", "move-b", "least squares", 24], ["ridge", "move-a", "ridge", -12]]) {
        band(sweep[name].map(([n, , low, high]) => [n, cut(low), cut(high)]), style);
        line(sweep[name].map(([n, median]) => [n, cut(median)]), style);
        add("text", { x: box.left + 6, y: py(cut(sweep[name][0][1])) + dy, class: `${style}-text` }, title);
        const ring = add("circle", { r: 6, class: `move-ring ${style}` });
        marks[name] = (n, value) => fill(ring, { cx: px(n), cy: py(cut(value)) }, []);
      }
      stage.replaceChildren(root, marks.bars, html("p", {}, KEY));
      images.show();
    }

    function move(n) {
      const { d, ols, ridge } = sweep;
      const [[, plain], [, held]] = [ols, ridge].map((points) => points.find(([size]) => size === n));
      marks.ols(n, plain);
      marks.ridge(n, held);
      const most = Math.max(d, ols.at(-1)[0]);
      const bar = (name, count, style) => {
        const size = { class: `move-bar ${style}`, style: `width: ${(50 * count) / most}%` };
        return row(html("span", {}, name), html("span", size), whole(count));
      };
      marks.bars.replaceChildren(bar("images, n", n, "move-b-fill"), bar("dimensions, d", d, "move-guide-fill"));
      const [a, b] = [plain, held].map((value) => fixed(value, Math.abs(value) < 10 ? 2 : 0));
      const sizes = `${whole(n)} training images, ${whole(d)} dimensions (n/d = ${fixed(n / d)})`;
      words.textContent = `${sizes}: R² of least squares ${a}, of ridge ${b}.`;
    }

    chooseNetwork(first);
    return { controls: [network.row, layer.row, images.row], draw };
  });

  start("move-manipulations", (data, stage, words) => {
    const SIDE = 64; // of the control network's input: a pixel here is one of its pixels
    const SOURCE = 256; // side of a picture
    const SHARE = 0.4; // of the side that the object takes at k = 1
    const SHARES = [0.2, 0.3, 0.4, 0.6, 0.8]; // in the pictures
    const KINDS = {
      resize: ["resize", "image × k, share kept"],
      zoom: ["zoom of a window", "image × k, share kept"],
      share: ["share, by cropping", "image kept, share × k"],
      rendered: ["share, rendered anew", "image kept, share × k"],
      canvas: ["canvas", "image × k, share ÷ k"],
      detail: ["detail", "shrunk and stretched back"],
    };
    const KEY =
      "Bars: share of labels kept, with its 95 % interval. Pictures: a rendered scene in the pixels of the control " +
      "network's input; dashed, the size at k = 1. In a window the object takes 40 % of the side at k = 1.";
    // Columns: network, weights, manipulation, factor, share of labels kept, and its interval.
    const rows = ["compact", "control"].flatMap((profile) => data[`${profile}/02_resizing_invariance/labels_kept`]);
    const networks = [
      ["trained at all scales", "control", "all scales"],
      ["trained at one scale", "control", "one scale"],
      ["MobileNetV2, photos", "MobileNetV2", "imagenet"],
    ].map(([name, network, weights]) => {
      const own = rows.filter((row) => row[0] === network && row[1].startsWith(weights));
      return { name, rows: own };
    });
    const found = (kind, factor) =>
      networks.map(({ name, rows: own }, i) => {
        const measured = own.find((row) => row[2] === kind && row[3] === factor);
        return measured && { name, style: `move-${"abc"[i]}-fill`, values: measured.slice(4) };
      }).filter(Boolean);
    const factors = [...new Set(networks.flatMap((one) => one.rows.map((row) => row[3])))].sort((a, b) => a - b);
    const k = slider("factor, k", String, move);
    k.set(factors, factors.indexOf(0.5));
    const strip = new Image(); // one scene with the object at each share, side by side
    strip.src = data.pictures;

    // A square of one picture of the strip, [left, top, side] in its pixels, brought to a size.
    function cut(picture, [left, top, side], size) {
      const canvas = html("canvas", { width: size, height: size });
      const pen = canvas.getContext("2d");
      pen.imageSmoothingQuality = "high";
      const speck = html("canvas", { width: 1, height: 1 }); // what lies outside has the mean colour
      speck.getContext("2d").drawImage(strip, picture * SOURCE, 0, SOURCE, SOURCE, 0, 0, 1, 1);
      pen.drawImage(speck, 0, 0, size, size);
      const inside = (value) => clamp(value, 0, SOURCE);
      const [x, y, x1, y1] = [inside(left), inside(top), inside(left + side), inside(top + side)];
      const to = [x - left, y - top, x1 - x, y1 - y].map((value) => (value * size) / side);
      pen.drawImage(strip, picture * SOURCE + x, y, x1 - x, y1 - y, ...to);
      return canvas;
    }

    function manipulated(kind, factor) {
      const sized = Math.round(SIDE * factor);
      const at = (share) => SHARES.findIndex((one) => Math.abs(one - share) < 1e-6);
      const all = [0, 0, SOURCE];
      const window = (share) => {
        const [x0, y0, x1, y1] = data.boxes[0];
        const side = Math.sqrt((x1 - x0) * (y1 - y0)) / share;
        return [(x0 + x1 - side) / 2, (y0 + y1 - side) / 2, side];
      };
      const given = {
        resize: () => cut(at(SHARE), all, sized),
        zoom: () => cut(0, window(SHARE), sized),
        share: () => cut(0, window(SHARE * factor), SIDE),
        rendered: () => cut(at(SHARE * factor), all, SIDE),
        canvas: () => cut(0, window(SHARE / factor), sized),
        detail: () => cut(at(SHARE), all, sized),
      };
      const picture = given[kind]();
      if (kind === "detail") picture.style = `height: ${SIDE}px; image-rendering: auto; width: ${SIDE}px`;
      return picture;
    }

    function bar({ name, style, values: [kept, low, high] }) {
      const share = html("span", { class: `move-bar ${style}`, style: `width: ${100 * kept}%` });
      const range = html("span", { class: "move-whisker", style: `left: ${100 * low}%; width: ${100 * (high - low)}%` });
      const track = html("span", { class: "move-track" }, share, range);
      return html("div", { class: "move-kept" }, html("span", {}, name), html("span", {}, percent(kept)), track);
    }

    function cell(kind, factor) {
      const [title, what] = KINDS[kind];
      const measured = found(kind, factor);
      const absent = html("span", {}, `not measured at k\u00a0=\u00a0${factor}`);
      const picture = html("div", { class: "move-picture" }, measured.length ? manipulated(kind, factor) : absent);
      const bars = html("div", {}, ...measured.map(bar));
      return html("div", { class: "move-cell" }, html("strong", {}, title), html("span", {}, what), picture, bars);
    }

    function move(factor) {
      stage.replaceChildren(...Object.keys(KINDS).map((kind) => cell(kind, factor)), html("p", {}, KEY));
      const resized = found("resize", factor).map(({ name, values }) => `${name} ${percent(values[0])}`);
      words.textContent = `Labels kept when the image is resized by ${factor}: ${resized.join("; ")}.`;
    }

    return { controls: [k.row], draw: () => strip.decode().then(k.show) };
  });
});
