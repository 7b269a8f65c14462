/** Milliseconds until a question is asked again that failed, or found nothing yet: the event that asked it may have been the last one. */
export const AGAIN = 3000;

/** One question at a time, with a pause after it; wishes that come meanwhile become one more question. */
export class Asker {
  constructor(
    /** The question; what it answers is after how many milliseconds it wants to be asked again without a wish. */
    private readonly _ask: () => Promise<number | void>,
    /** Whether anybody would see the answer; a wish that comes too early is kept. */
    private readonly _seen: () => boolean = () => true,
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
    window.clearTimeout(this._later);
    this._disposed = true;
  }

  private async _next(): Promise<void> {
    if (this._busy || !this._stale || this._disposed || !this._seen()) {
      return;
    }
    this._stale = false;
    this._busy = true;
    window.clearTimeout(this._later);
    try {
      const again = await this._ask();
      if (again && !this._disposed) {
        this._later = window.setTimeout(() => this.wish(), again);
      }
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
  private _later = 0;
}
