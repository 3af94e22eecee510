/* A question with choices, answered in the page and remembered by the browser. */
nx.build = function (stage) {
  const { root, live, data, still, say } = stage;
  const copy = (node) => nx.h("span", {}, ...node.cloneNode(true).childNodes);
  const texts = [...still.querySelectorAll(".nx-text")],
    reasons = [...still.querySelectorAll(".nx-why")];
  const name = stage.name("choice");
  let chosen = null,
    answered = false;

  // A page opened from a file, or inside another page, may refuse to remember: then it does not.
  function remember(value) {
    try {
      localStorage.setItem(data.key, JSON.stringify({ chosen: value, of: data.fingerprint }));
    } catch (refused) {
      return;
    }
  }
  function recall() {
    try {
      const kept = JSON.parse(localStorage.getItem(data.key));
      return kept && kept.of === data.fingerprint && texts[kept.chosen] ? kept.chosen : null;
    } catch (refused) {
      return null;
    }
  }

  // The name of a choice in plain letters: a typeset formula says nothing to a screen reader.
  const spoken = (text) => {
    const words = text.cloneNode(true);
    words.querySelectorAll("[data-nx-plain]").forEach((node) => {
      node.textContent = node.dataset.nxPlain;
    });
    return words.textContent;
  };
  const radios = texts.map((text, i) =>
    nx.h("input", {
      type: "radio",
      name,
      id: name + i,
      value: i,
      "aria-label": spoken(text),
      onchange: () => {
        chosen = i;
        note.textContent = "";
      },
    }),
  );
  const rows = texts.map((text, i) =>
    nx.h("div", { class: "nx-pick" }, radios[i], nx.h("label", { for: name + i }, copy(text))),
  );
  const note = nx.h("span", { class: "nx-quiet", role: "status" });
  const show = nx.button(
    "Show the answer",
    () => {
      if (chosen === null) {
        note.textContent = "Choose one first: a guess is enough.";
        radios[0].focus();
      } else {
        remember(chosen);
        reveal(true);
      }
    },
    { primary: true },
  );
  const again = nx.button("Change my answer", () => {
    answered = false;
    draw();
    radios[chosen].focus();
    say("Choose again.");
  });
  const result = nx.h("div", { class: "nx-result", tabindex: -1, role: "group", "aria-label": "The answer" });
  const fields = nx.h(
    "fieldset",
    { class: "nx-question-box" },
    nx.h("legend", {}, nx.h("b", {}, "Predict. "), copy(still.querySelector(".nx-question"))),
    ...rows,
  );
  // The answers wait out of sight but with a size, since the page's typesetter measures what it sets.
  const names = texts.map(copy),
    why = reasons.map(copy);
  const wait = nx.h("div", { class: "nx-wait", "aria-hidden": "true" }, ...names, ...why);
  live.append(fields, result, nx.h("div", { class: "nx-buttons" }, show, again, note), wait);

  function reveal(now) {
    answered = true;
    const right = chosen === data.answer;
    const entry = (i, mark) => nx.h("p", {}, nx.h("b", {}, mark, names[i], "."), " ", why[i]);
    const others = texts.map((_, i) => i).filter((i) => i !== chosen && i !== data.answer);
    const verdict = nx.h(
      "p",
      {},
      nx.h("b", {}, right ? "✓ Right: " : "✗ Not this one: ", names[chosen], "."),
      " ",
      why[chosen],
    );
    const rest = nx.h(
      "details",
      {},
      nx.h("summary", {}, right ? "Why the other choices tempt" : "The other choices"),
      ...others.map((i) => entry(i, "✗ ")),
    );
    result.replaceChildren(
      verdict,
      ...(right ? [] : [entry(data.answer, "✓ ")]),
      ...(others.length ? [rest] : []),
    );
    draw();
    if (now) result.focus();
  }

  function draw() {
    fields.disabled = answered;
    result.hidden = !answered;
    show.hidden = answered;
    again.hidden = !answered;
    rows.forEach((row, i) => {
      radios[i].checked = i === chosen;
      row.classList.toggle("nx-is-right", answered && i === data.answer);
      row.classList.toggle("nx-is-wrong", answered && i === chosen && i !== data.answer);
    });
  }

  /* Formulas are typeset by the page: by its MathJax, or by JupyterLab. Where neither is there, or it has
     not come after some seconds, plain letters stand instead. */
  function spell() {
    for (const node of root.querySelectorAll("[data-nx-plain]")) {
      if (node.textContent.startsWith("\\(")) node.textContent = node.dataset.nxPlain;
    }
  }
  function typeset() {
    if (window.MathJax || document.body.dataset.jpThemeLight) setTimeout(spell, 8000);
    else spell();
  }
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", typeset);
  else typeset();

  chosen = recall();
  if (chosen !== null) reveal(false);
  else draw();
};
