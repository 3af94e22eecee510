// What the pages need beyond the theme: names for unnamed controls, boxes that scroll by keyboard, a search that
// works from a file.

(() => {
  "use strict";

  // The widget manager typesets its labels through MathJax 2's queue; MathJax 3 has none.
  if (window.MathJax && !window.MathJax.Hub) {
    window.MathJax.Hub = { Queue: () => window.MathJax.typesetPromise && window.MathJax.typesetPromise() };
  }

  // A page opened from a file may not read other files: the search shows titles and no summaries.
  if (location.protocol === "file:" && typeof DOCUMENTATION_OPTIONS !== "undefined") {
    DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
  }

  const SCROLLING =
    ".bd-article :is(div.math, .pst-scrollable-table-container, div.highlight pre, .output.text_html, .nem-picture)";
  const NAMES = {
    math: "Formula, scrolls sideways",
    table: "Table, scrolls sideways",
    code: "Code, scrolls sideways",
    figure: "Figure, scrolls sideways",
  };

  const nameOf = (box) =>
    box.matches("div.math")
      ? NAMES.math
      : box.matches("pre")
        ? NAMES.code
        : box.matches(".nem-picture")
          ? NAMES.figure
          : NAMES.table;

  // Plots are drawn as wide as the text; a narrower picture (a row of digits) may shrink with the window.
  const PLOT = 34 * 16;
  const boxPlots = () =>
    document.querySelectorAll(".bd-article .cell_output figure > img").forEach((picture) => {
      const box = document.createElement("div");
      box.className = "nem-picture";
      const measure = () => box.classList.toggle("nem-plot", picture.naturalWidth >= PLOT);
      picture.replaceWith(box);
      box.append(picture);
      picture.addEventListener("load", measure);
      measure();
    });

  // A formula, a table or a plot that goes on to the right shows it; code and what a cell prints need no sign.
  const showMore = (scroller) =>
    scroller.classList.toggle(
      "nem-more",
      scroller.scrollWidth - scroller.clientWidth - scroller.scrollLeft > 2,
    );

  const scrollerOf = (box) => (box.matches("div.math") && box.querySelector("mjx-container")) || box;

  // A box that is wider than its place can be reached with the tab key; one that fits stays out of the way.
  const fit = (box) => {
    const scroller = scrollerOf(box);
    if (scroller.scrollWidth > scroller.clientWidth + 1) {
      scroller.tabIndex = 0;
      scroller.setAttribute("role", "group");
      scroller.setAttribute("aria-label", nameOf(box));
    } else if (scroller.getAttribute("role") === "group") {
      ["tabindex", "role", "aria-label"].forEach((name) => scroller.removeAttribute(name));
    }
    if (!box.matches("pre, .output")) showMore(scroller);
  };

  // A formula within a line cannot be broken; one that is wider than the text scrolls like a displayed one.
  const fitInline = (article) => {
    article.querySelectorAll("mjx-container:not([display])").forEach((formula) => {
      formula.classList.remove("nem-too-wide");
      const room = formula.closest("p, li, td, dd, figcaption, div")?.clientWidth ?? article.clientWidth;
      const wide = formula.getBoundingClientRect().width > room + 1;
      formula.classList.toggle("nem-too-wide", wide);
      if (wide) {
        formula.tabIndex = 0;
        formula.setAttribute("role", "group");
        formula.setAttribute("aria-label", NAMES.math);
      } else if (formula.getAttribute("role") === "group") {
        ["tabindex", "role", "aria-label"].forEach((name) => formula.removeAttribute(name));
      }
    });
  };

  const watchBoxes = () => {
    const article = document.querySelector(".bd-article");
    if (article) {
      let width = 0;
      new ResizeObserver(() => {
        if (article.clientWidth !== width) {
          width = article.clientWidth;
          fitInline(article);
        }
      }).observe(article);
    }
    const observer = new ResizeObserver((entries) => entries.forEach((entry) => fit(entry.target)));
    document.querySelectorAll(SCROLLING).forEach((box) => {
      observer.observe(box);
      scrollerOf(box).addEventListener("scroll", () => fit(box), { passive: true });
    });
  };

  // Buttons whose only name is a tooltip lose it when the tooltip opens; a name that repeats the words is noise.
  const nameControls = () => {
    document
      .querySelectorAll("button[title]:not([aria-label]), a.btn[title]:not([aria-label])")
      .forEach((control) => {
        const words = control.textContent.trim();
        if (!words) control.setAttribute("aria-label", control.title);
      });
    document
      .querySelectorAll("button.search-button-field")
      .forEach((button) => button.removeAttribute("aria-label"));
    document
      .querySelectorAll(".search-button__kbd-shortcut")
      .forEach((keys) => keys.setAttribute("aria-hidden", "true"));
    document.querySelectorAll("a.headerlink").forEach((link) => {
      link.setAttribute("aria-label", link.title || "Link to this place");
    });
  };

  // The widget manager draws a slider's handle without a name; its label stands beside it.
  const nameSliders = () => {
    if (!document.querySelector('script[type="application/vnd.jupyter.widget-view+json"]')) return;
    const name = () =>
      document.querySelectorAll(".noUi-handle:not([aria-label])").forEach((handle) => {
        const label = handle.closest(".jupyter-widgets")?.querySelector(".widget-label")?.textContent.trim();
        handle.setAttribute("aria-label", label || "Value");
      });
    new MutationObserver(name).observe(document.querySelector(".bd-article") ?? document.body, {
      childList: true,
      subtree: true,
    });
    name();
  };

  // On paper nothing can be unfolded.
  const unfoldForPrint = () => {
    const folded = () => document.querySelectorAll(".bd-article details:not([open])");
    addEventListener("beforeprint", () =>
      folded().forEach((box) => {
        box.open = true;
        box.dataset.unfolded = "";
      }),
    );
    addEventListener("afterprint", () =>
      document.querySelectorAll("details[data-unfolded]").forEach((box) => {
        box.open = false;
        delete box.dataset.unfolded;
      }),
    );
  };

  const start = () => {
    unfoldForPrint();
    boxPlots();
    nameControls();
    nameSliders();
    (window.MathJax?.startup?.promise ?? Promise.resolve()).then(watchBoxes);
  };
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
