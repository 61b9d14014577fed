(() => {
  "use strict";
  const storage = {
    get: (key) => { try { return localStorage.getItem(key); } catch { return null; } },
    set: (key, value) => { try { localStorage.setItem(key, value); } catch { /* private window */ } },
  };

  // A chosen colour scheme wins over the system's, on every page and against whoever sets it again.
  const THEME = "trimtab.theme";
  const applyTheme = () => {
    const chosen = storage.get(THEME);
    if (!chosen) return;
    for (const node of [document.body, document.documentElement]) {
      if (node && node.classList.contains("dark") !== (chosen === "dark")) {
        node.classList.toggle("dark", chosen === "dark");
      }
    }
  };
  const toggleTheme = () => {
    storage.set(THEME, document.body.classList.contains("dark") ? "light" : "dark");
    applyTheme();
  };
  applyTheme();
  new MutationObserver(applyTheme).observe(document.documentElement, {
    attributes: true, attributeFilter: ["class"], subtree: false,
  });
  if (document.body) {
    new MutationObserver(applyTheme).observe(document.body, { attributes: true, attributeFilter: ["class"] });
  }

  // A bubble is HTML that carries the text it was made from: that text is what is copied and edited.
  const source = (html) => {
    if (!String(html).startsWith('<div class="tt-text')) return html;
    const block = new DOMParser().parseFromString(html, "text/html").querySelector("[data-source]");
    return block ? block.dataset.source : html;
  };
  const clipboard = navigator.clipboard;
  if (clipboard && clipboard.writeText) {
    const write = clipboard.writeText.bind(clipboard);
    clipboard.writeText = (text) => write(source(text));
  }
  const edit = () => {
    for (const area of document.querySelectorAll("#chat-log textarea")) {
      const text = source(area.value);
      if (text === area.value) continue;
      area.value = text;
      area.dispatchEvent(new Event("input", { bubbles: true }));
    }
  };

  const visible = (node) => Boolean(node && node.offsetParent !== null);
  const typing = (node) =>
    Boolean(node && (node.closest("input:not([type=checkbox], [type=radio]), textarea, select, [contenteditable='true'], [role='listbox']")));

  // One key, one button: any visible, enabled button whose id is named here.
  const KEYS = {
    a: ["vote-a"], b: ["vote-b"], t: ["vote-tie"], x: ["vote-both-bad", "rank-all-bad"],
    n: ["rank-next", "chat-new"], c: ["rank-compare"], d: ["rank-draw"], s: ["chat-stop"],
    u: ["rank-undo"],
  };
  // Keys that lead somewhere in Rank: a choice, the next way to show the texts, a menu, a fold, the guidelines.
  // The order of more than two responses, built here: `c>a=b`.
  const ordering = () => [...document.querySelectorAll("#rank-order .tt-order")].find(visible);
  const place = (key) => {
    const area = ordering();
    if (!area || !area.querySelector(`[data-place="${CSS.escape(key)}"]`)) return false;
    const order = area.dataset.order;
    if (key === "") area.dataset.order = "";
    else if (key === "=") area.dataset.order = order.endsWith("=") ? order.slice(0, -1) : order && `${order}=`;
    else if (!order.includes(key)) area.dataset.order = order && !order.endsWith("=") ? `${order}>${key}` : order + key;
    const now = area.dataset.order;
    const line = area.querySelector("[data-hint]");
    line.textContent = now ? now.toUpperCase().replaceAll(">", " > ").replaceAll("=", " = ") : line.dataset.hint;
    for (const node of area.querySelectorAll("[data-place]")) {
      const key = node.dataset.place;
      if (key) node.setAttribute("aria-pressed", String(key === "=" ? now.endsWith("=") : now.includes(key)));
    }
    return true;
  };
  const PLACES = { a: "a", b: "b", c: "c", d: "d", t: "=", Backspace: "" };
  let waiting = false;
  const choose = (group, place) => () => document.querySelectorAll(`#${group} input`)[place]?.click();
  const LEADS = {
    1: choose("rank-strength", 1), 2: choose("rank-strength", 2), 0: choose("rank-strength", 0),
    v: () => {
      const ways = [...document.querySelectorAll("#rank-view input")];
      ways[(ways.findIndex((way) => way.checked) + 1) % ways.length]?.click();
    },
    k: () => {
      const menu = document.querySelector("#rank-skip details");
      if (!menu) return;
      menu.open = true;
      menu.querySelector("[data-id]").focus();
    },
    r: () => document.querySelector("#rank-reasons-a input")?.focus(),
    g: () => document.querySelector("#rank-guidelines dialog")?.showModal(),
    w: () => {
      const field = () => document.querySelector("#rank-better textarea");
      if (!visible(field())) document.querySelector("#rank-better-fold button")?.click();
      // until the field is there, keys are neither votes nor lost commands
      const lead = (frames) => {
        waiting = !visible(field()) && frames > 0;
        if (waiting) requestAnimationFrame(() => lead(frames - 1)); else field()?.focus();
      };
      lead(120);
    },
  };
  const FIELDS = "#chat-input textarea, #rank-prompt textarea";
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      drawer(false);
      fold();
      if (typing(event.target)) event.target.blur();
    }
    if ((event.ctrlKey || event.metaKey) && !event.altKey && !event.shiftKey && event.key.toLowerCase() === "k") {
      event.preventDefault();
      palette();
      return;
    }
    if (document.querySelector("dialog[open]")) return;
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || waiting || typing(event.target)) return;
    if (event.key === "?" || event.key === "/") {
      event.preventDefault();
      if (event.key === "?") showKeys(); else [...document.querySelectorAll(FIELDS)].find(visible)?.focus();
      return;
    }
    if (ordering()) {
      const key = PLACES[event.key] ?? PLACES[event.key.toLowerCase()];
      if (key !== undefined && place(key)) return event.preventDefault();
      if (event.key === "Enter" && !event.target.closest("button, a, summary, input")) {
        event.preventDefault();
        document.getElementById("rank-order-vote")?.click();
        return;
      }
    }
    const leads = visible(document.getElementById("rank-table")) && LEADS[event.key.toLowerCase()];
    if (leads) {
      event.preventDefault();
      leads();
      return;
    }
    const ids = KEYS[event.key.toLowerCase()] || [];
    const button = ids.map((id) => document.getElementById(id)).find((node) => visible(node) && !node.disabled);
    if (button) {
      event.preventDefault();
      button.click();
    }
  });

  // The page of keys; its texts come with the page (theme.py).
  const element = (tag, text, ...children) => {
    const node = document.createElement(tag);
    node.append(...(text ? [text] : []), ...children);
    return node;
  };
  const showKeys = () => {
    const { label, close, groups } = window.trimtabKeys;
    const dialog = element("dialog", "", element("h2", label));
    dialog.className = "tt-keys";
    dialog.setAttribute("aria-label", label);
    for (const [name, keys] of groups) {
      const rows = keys.map(([key, does]) => element("div", "", element("dt", "", element("kbd", key)), element("dd", does)));
      dialog.append(element("section", "", element("h3", name), element("dl", "", ...rows)));
    }
    const button = element("button", close);
    button.type = "button";
    button.addEventListener("click", () => dialog.close());
    dialog.addEventListener("close", () => dialog.remove());
    dialog.append(button);
    document.body.append(dialog);
    dialog.showModal();
  };

  // A dialog that goes away when it is closed.
  const dialog = (name, label, ...children) => {
    const node = element("dialog", "", element("h2", label), ...children);
    node.className = `tt-dialog ${name}`;
    node.setAttribute("aria-label", label);
    node.addEventListener("close", () => node.remove());
    node.addEventListener("click", (event) => { if (event.target === node) node.close(); });
    document.body.append(node);
    node.showModal();
    return node;
  };
  const button = (text, does) => {
    const node = element("button", text);
    node.type = "button";
    if (does) node.addEventListener("click", does);
    return node;
  };

  // Ask for a line of text; `options` are offered, one a line. What is saved goes to `done`.
  const ask = ({ ask: label, value, options }, done) => {
    const { save, cancel } = window.trimtabKeys;
    const field = element("input", "");
    Object.assign(field, { value: value || "", maxLength: 200 });
    field.setAttribute("aria-label", label);
    const form = element("form", "", field);
    if (options) {
      const list = element("datalist", "", ...options.split("\n").map((text) => Object.assign(element("option", ""), { value: text })));
      list.id = "tt-ask-options";
      field.setAttribute("list", list.id);
      form.append(list);
    }
    const submit = button(save);
    submit.type = "submit";
    const node = dialog("tt-ask", label, form);
    form.append(element("div", "", button(cancel, () => node.close()), submit));
    form.addEventListener("submit", (event) => { event.preventDefault(); node.close(); done(field.value); });
    field.focus();
    field.select();
  };

  // Show a read-only link, with what can be done with it.
  const showLink = (text) => {
    if (!text) return;
    const link = JSON.parse(text);
    const address = new URL(link.path.replace(/^\//, "./"), location.href.split("?")[0]).href;
    const field = Object.assign(element("input", ""), { value: address, readOnly: true });
    field.setAttribute("aria-label", link.title);
    const copied = button(link.copy, () => { clipboard?.writeText(address); copied.textContent = link.copied; field.select(); });
    const revoke = button(link.revoke, () => { node.close(); window.trimtab.conversation(link.id, "unshare"); });
    const node = dialog("tt-ask", link.title, element("p", link.hint), field);
    node.append(element("div", "", revoke, button(link.close, () => node.close()), copied));
    field.select();
  };

  // Everything on the page that can be pressed by name: screens, buttons, conversations; Ctrl+K.
  const COMMANDS = ".tt-bar nav a, .tt-conversation, .tt-export [data-id], button[id], .tt-bar button[data-tt]";
  const commands = () => [...document.querySelectorAll(COMMANDS)]
    .filter((node) => !node.disabled && (visible(node) || node.closest(".tt-drawer, .tt-export")))
    .map((node) => ({ node, name: (node.querySelector("span")?.textContent || node.ariaLabel || node.textContent).trim() }))
    .filter(({ name }) => name);
  const palette = () => {
    if (document.querySelector("dialog[open]")) return;
    const { label, hint, nothing } = window.trimtabKeys.palette;
    const all = commands();
    const field = Object.assign(element("input", ""), { type: "search", placeholder: hint });
    const list = element("ul", "");
    list.id = "tt-palette-list";
    list.setAttribute("role", "listbox");
    list.setAttribute("aria-label", label);
    for (const [name, value] of [["aria-label", hint], ["role", "combobox"], ["aria-controls", list.id], ["aria-expanded", "true"]]) {
      field.setAttribute(name, value);
    }
    const node = dialog("tt-palette", label, field, list);
    let found = [], at = 0;
    const choose = (one) => { node.close(); one?.node.click(); };
    const mark = () => {
      [...list.children].forEach((item, place) => item.setAttribute("aria-selected", String(place === at)));
      field.setAttribute("aria-activedescendant", found.length ? `tt-palette-${at}` : "");
      list.children[at]?.scrollIntoView({ block: "nearest" });
    };
    const show = () => {
      const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
      found = all.filter(({ name }) => words.every((word) => name.toLowerCase().includes(word))).slice(0, 50);
      at = 0;
      list.replaceChildren(...found.map((one, place) => {
        const item = element("li", one.name);
        item.id = `tt-palette-${place}`;
        item.dir = "auto";
        item.setAttribute("role", "option");
        item.addEventListener("click", () => choose(one));
        return item;
      }));
      if (!found.length) list.append(Object.assign(element("li", nothing), { className: "tt-subdued" }));
      mark();
    };
    field.addEventListener("input", show);
    field.addEventListener("keydown", (event) => {
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (step && found.length) { event.preventDefault(); at = (at + step + found.length) % found.length; mark(); }
      if (event.key === "Enter") { event.preventDefault(); choose(found[at]); }
    });
    show();
    field.focus();
  };

  // Menus that are open fold again at a click elsewhere.
  const MENUS = ".tt-export[open], .tt-menu-of[open]";
  const fold = (but) => {
    for (const node of document.querySelectorAll(MENUS)) if (node !== but) node.open = false;
  };

  // In a narrow window the conversations slide in over the talk.
  const drawer = (open) => {
    const node = document.querySelector(".tt-chat");
    if (node) node.classList.toggle("tt-drawer-open", open);
  };
  document.addEventListener("click", (event) => {
    const all = event.target.closest("[data-tt='choose-all']");
    if (all) for (const box of document.querySelectorAll("#curate-rows .tt-picked > input")) box.checked = all.checked;
    if (event.target.closest("[data-tt='theme']")) toggleTheme();
    if (event.target.closest("[data-tt='keys']")) showKeys();
    if (event.target.closest("[data-tt='guidelines']")) LEADS.g();
    const placed = event.target.closest("#rank-order [data-place]");
    if (placed) place(placed.dataset.place);
    fold(event.target.closest(":is(.tt-export, .tt-menu-of) [data-id]") ? null : event.target.closest(MENUS));
    const act = event.target.closest(":is(#chat-log, #chat-context) button[name^='tt-']");
    if (act && !visible(document.getElementById("chat-stop"))) window.trimtab.act(act.name.slice(3), act.value);
    const copy = event.target.closest(".tt-copy");
    if (copy && clipboard) {
      clipboard.writeText(copy.parentElement.querySelector("pre").textContent);
      const { title } = copy;
      copy.title = window.trimtabKeys.copied;
      setTimeout(() => { copy.title = title; }, 1500);
    }
    const sharing = event.target.closest("[data-tt='sharing']");
    if (sharing) {
      const open = sharing.closest(".tt-sharing").classList.toggle("tt-sharing-open");
      sharing.setAttribute("aria-expanded", String(open));
    }
    if (event.target.closest("[data-tt='drawer']")) {
      drawer();
    } else if (event.target.closest(".tt-conversation, #chat-new") || !event.target.closest(".tt-drawer")) {
      drawer(false);
    }
  });

  // Ops redraws every few seconds: what a person unfolded stays unfolded.
  const unfolded = new Set();
  document.addEventListener("toggle", (event) => {
    const key = event.target.dataset && event.target.dataset.key;
    if (!key) return;
    if (event.target.open) unfolded.add(key); else if (event.target.isConnected) unfolded.delete(key);
  }, true);
  const unfold = () => {
    for (const node of document.querySelectorAll("details[data-key]:not([open])")) {
      if (unfolded.has(node.dataset.key)) node.open = true;
    }
  };
  // Formulas, by Gradio's own KaTeX; loaded when a page has the first one. Nothing in them may load or run anything.
  const DELIMITERS = [["$$", "$$", true], ["\\[", "\\]", true], ["\\(", "\\)", false], ["$", "$", false]]
    .map(([left, right, display]) => ({ left, right, display }));
  let katex = null;
  const typeset = async () => {
    const { script, style } = window.trimtabKeys.math;
    const nodes = document.querySelectorAll(".tt-math:not([data-tex])");
    if (!nodes.length || !script || !style) return;
    for (const node of nodes) node.dataset.tex = node.textContent;
    if (!katex) {
      const sheet = Object.assign(element("link", ""), { rel: "stylesheet", href: new URL(style, document.baseURI).href });
      document.head.append(sheet);
      katex = import(new URL(script, document.baseURI).href);
    }
    const { default: render } = await katex;
    for (const node of nodes) {
      // One that KaTeX does not read, or that asks for more than a formula, stays as it was written.
      if (!node.isConnected || /\\(href|url|includegraphics|html)/.test(node.dataset.tex)) continue;
      render(node, { delimiters: DELIMITERS, throwOnError: true, errorCallback: () => {}, trust: false, strict: "ignore" });
    }
  };
  const start = () => new MutationObserver(() => { unfold(); edit(); typeset(); }).observe(document.body, { childList: true, subtree: true });
  if (document.body) start(); else document.addEventListener("DOMContentLoaded", start);

  // What is written and not sent yet lives as long as its tab; signing out takes it away.
  const MODEL = "trimtab.model";
  const draft = (screen) => `trimtab.draft.${screen}`;
  const taken = new Set();
  document.addEventListener("submit", (event) => {
    if (event.target.closest(".tt-logout")) { try { sessionStorage.clear(); } catch { /* private window */ } }
  }, true);

  // Called from Python's event wiring.
  window.trimtab = {
    keepDraft(screen, text) {
      if (!taken.has(screen)) return;
      try { sessionStorage.setItem(draft(screen), text || ""); } catch { /* private window */ }
    },
    takeDraft(screen, text) {
      taken.add(screen);
      try { return text || sessionStorage.getItem(draft(screen)) || ""; } catch { return text; }
    },
    ask,
    showLink,
    order: () => ordering()?.dataset.order || "",
    lastModel: () => storage.get(MODEL) || "",
    chooseModel: (name) => storage.set(MODEL, name || ""),
    save(file) {
      if (!file) return;
      const { name, type, text } = JSON.parse(file);
      const link = element("a", "");
      link.href = URL.createObjectURL(new Blob([text], { type }));
      link.download = name;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    },
    address(conversation) {
      const now = new URL(location.href);
      if (conversation) now.searchParams.set("c", conversation); else now.searchParams.delete("c");
      history.replaceState(history.state, "", now);
    },
  };
})();
