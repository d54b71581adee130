/**
 * Messages over a stream between two of our processes: one line of JSON each, validated on arrival.
 * Anything else, a line that is too long, or a peer that does not read ends the channel, with the
 * reason; it is never repaired.
 */
import type { Duplex } from 'node:stream';
import { StringDecoder } from 'node:string_decoder';

export interface ChannelOptions<In> {
  /** Longest line that is accepted or sent, in bytes. */
  readonly messageBytesMax: number;
  /** Undefined for what is no valid message. */
  readonly decode: (value: unknown) => In | undefined;
  readonly onMessage: (message: In) => void;
  /** Once, when no message will come any more. */
  readonly onEnd: (reason: string) => void;
}

/** So many bytes, and one message, may wait for a peer that does not read. */
const UNREAD_BYTES_MAX = 16 * 1024 * 1024;
/** A peer's rubbish appears in the reason; so much of it tells enough. */
const EXCERPT_LENGTH_MAX = 120;

export class MessageChannel<In, Out> {
  readonly #stream: Duplex;
  readonly #options: ChannelOptions<In>;
  readonly #decoder = new StringDecoder('utf8');
  /** Of a line that has not ended; joined once, when it does. */
  #pending: string[] = [];
  #pendingLength = 0;
  #ended = false;

  constructor(stream: Duplex, options: ChannelOptions<In>) {
    this.#stream = stream;
    this.#options = options;
    stream.on('data', (bytes: Buffer) => this.#receive(bytes));
    stream.on('error', (error) => this.end(error.message));
    stream.on('close', () => this.end('the other side has closed'));
    stream.on('end', () => this.end('the other side has closed'));
  }

  /** Silently nothing once the channel has ended. */
  send(message: Out): void {
    if (this.#ended) return;
    const line = `${JSON.stringify(message)}\n`;
    const bytes = Buffer.byteLength(line);
    if (bytes > this.#options.messageBytesMax) {
      throw new RangeError(`a message of ${bytes} bytes, over ${this.#options.messageBytesMax}`);
    }
    this.#stream.write(line);
    if (this.#stream.writableLength > UNREAD_BYTES_MAX + this.#options.messageBytesMax) {
      this.end(`the other side leaves ${this.#stream.writableLength} bytes unread`);
    }
  }

  /** Says one thing more and closes, when the other side has had all. */
  sendLast(message: Out): void {
    if (!this.#ended) this.#stream.end(`${JSON.stringify(message)}\n`);
  }

  end(reason: string): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#pending = [];
    this.#pendingLength = 0;
    this.#stream.destroy();
    this.#options.onEnd(reason);
  }

  #receive(bytes: Buffer): void {
    const text = this.#decoder.write(bytes);
    this.#pending.push(text);
    this.#pendingLength += text.length;
    if (text.includes('\n')) {
      const lines = this.#pending.join('').split('\n');
      const rest = lines.pop() ?? '';
      this.#pending = [rest];
      this.#pendingLength = rest.length;
      for (const line of lines) {
        if (this.#ended) return;
        this.#receiveLine(line);
      }
    }
    if (this.#pendingLength > this.#options.messageBytesMax) {
      this.end(`a message of more than ${this.#options.messageBytesMax} bytes came`);
    }
  }

  #receiveLine(line: string): void {
    const message = this.#decode(line);
    if (message === undefined) {
      this.end(`no valid message came: ${JSON.stringify(line.slice(0, EXCERPT_LENGTH_MAX))}`);
    } else {
      this.#options.onMessage(message);
    }
  }

  #decode(line: string): In | undefined {
    if (Buffer.byteLength(line) > this.#options.messageBytesMax) return undefined;
    try {
      return this.#options.decode(JSON.parse(line));
    } catch (error) {
      if (error instanceof SyntaxError) return undefined;
      throw error;
    }
  }
}
