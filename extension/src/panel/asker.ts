/** One question at a time, with a pause after it; wishes that come meanwhile become one more question. */
export class Asker {
  constructor(
    private readonly _ask: () => Promise<void>,
    /** Whether anybody would see the answer; a wish that comes too early is kept. */
    private readonly _seen: () => boolean,
    /** Milliseconds between an answer and the next question: changes come in bursts, a search logs every trial. */
    private readonly _gap = 400
  ) {}

  /** Ask at once, or after what is being asked now, or when `wish` is called again and somebody can see it. */
  wish(): void {
    this._stale = true;
    void this._next();
  }

  dispose(): void {
    window.clearTimeout(this._timer);
    this._disposed = true;
  }

  private async _next(): Promise<void> {
    if (this._busy || !this._stale || this._disposed || !this._seen()) {
      return;
    }
    this._stale = false;
    this._busy = true;
    try {
      await this._ask();
    } finally {
      this._timer = window.setTimeout(() => {
        this._busy = false;
        void this._next();
      }, this._gap);
    }
  }

  private _stale = false;
  private _busy = false;
  private _disposed = false;
  private _timer = 0;
}
