// Browsers start no worker from a page that was opened from the disk. There, the search of the theme runs in a hidden
// frame instead: this class has the part of Worker that the theme uses.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    #queue = [];
    #scope = null;

    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      frame.srcdoc = "<!doctype html>";
      frame.addEventListener("load", () => {
        const scope = frame.contentWindow;
        scope.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
        const script = frame.contentDocument.createElement("script");
        script.addEventListener("load", () => {
          this.#scope = scope;
          this.#queue.splice(0).forEach((data) => this.postMessage(data));
        });
        script.src = url;
        frame.contentDocument.body.append(script);
      }, { once: true });
      document.body.append(frame);
    }

    postMessage(data) {
      if (this.#scope) this.#scope.dispatchEvent(new MessageEvent("message", { data }));
      else this.#queue.push(data);
    }
  };
}
