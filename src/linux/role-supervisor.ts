/**
 * Performs what {@link Supervision} decides: starts role processes, speaks with them, kills them.
 *
 * A role is this same program with the words `role <name>`. It has one connection to the core, its
 * file descriptor 3; when that ends, it ends.
 */
// check-ignore layers: a role is this program itself, with a connection that no command has
import { type ChildProcess, spawn } from 'node:child_process';
import type { Duplex } from 'node:stream';
import type { RoleStatus, Supervision, SupervisionCommand } from '../gateway/supervision.ts';
import {
  asRoleMessage,
  type CoreMessage,
  MESSAGE_BYTES_MAX,
  type RoleMessage,
} from '../messages/role-messages.ts';
import { MessageChannel } from './message-channel.ts';

/** What the core knows of one role. */
export interface SupervisedRole {
  /** Program and arguments. */
  readonly argv: readonly [string, ...string[]];
  /** Makes the first message to each of its processes. */
  readonly begin: () => CoreMessage;
  /** Answers a question; what it throws is told to the role as a refusal. */
  readonly answer: (question: RoleMessage) => CoreMessage | undefined;
}

export interface RoleSupervisorOptions {
  readonly roles: Readonly<Record<string, SupervisedRole>>;
  readonly supervision: Supervision;
  /** Monotonic, in milliseconds. */
  readonly now: () => number;
  readonly onStatus: (statuses: readonly RoleStatus[]) => void;
  readonly onReady: (role: string, addresses: readonly string[]) => void;
  /** One line for the log. */
  readonly report: (text: string) => void;
}

/** A role that is asked to end, by the end of its connection, has so long before it is killed. */
const STOP_GRACE_MS = 2_000;
/** The descriptor by which a role speaks with the core. */
export const ROLE_CHANNEL_FD = 3;

interface RunningRole {
  readonly child: ChildProcess;
  /** Why it ends, as it says itself. */
  failure?: string;
  readonly channel: MessageChannel<RoleMessage, CoreMessage>;
}

export class RoleSupervisor {
  readonly #options: RoleSupervisorOptions;
  readonly #running = new Map<string, RunningRole>();
  #timer: NodeJS.Timeout | undefined;
  #stopped: PromiseWithResolvers<void> | undefined;

  constructor(options: RoleSupervisorOptions) {
    this.#options = options;
  }

  start(): void {
    this.#perform(this.#options.supervision.start(this.#options.now()));
  }

  /** Resolves when every role has ended. */
  async stop(): Promise<void> {
    this.#stopped ??= Promise.withResolvers<void>();
    this.#perform(this.#options.supervision.stop(this.#options.now()));
    this.#settle();
    await this.#stopped.promise;
  }

  /** Ends a role's process; the next one begins with what is true then. */
  restart(name: string, reason: string): void {
    this.#killRole(name, reason);
  }

  #perform(commands: readonly SupervisionCommand[]): void {
    for (const command of commands) {
      switch (command.kind) {
        case 'start-role':
          this.#startRole(command.role);
          break;
        case 'ping-role':
          this.#running.get(command.role)?.channel.send({ kind: 'ping' });
          break;
        case 'kill-role':
          this.#killRole(command.role, command.reason);
          break;
        case 'report-status':
          this.#options.onStatus(command.statuses);
      }
    }
    this.#schedule();
  }

  #schedule(): void {
    clearTimeout(this.#timer);
    const deadline = this.#options.supervision.nextDeadline();
    if (deadline === undefined) return;
    this.#timer = setTimeout(
      () => this.#perform(this.#options.supervision.handleTimeout(this.#options.now())),
      Math.max(0, Math.ceil(deadline - this.#options.now())),
    );
  }

  #startRole(name: string): void {
    const role = this.#role(name);
    const [program, ...rest] = role.argv;
    const child = spawn(program, rest, {
      stdio: ['ignore', 'inherit', 'inherit', 'pipe'],
      env: roleEnvironment(process.env),
      cwd: '/',
    });
    const exited = (how: string): void => {
      if (this.#running.get(name)?.child !== child) return;
      const reason = this.#running.get(name)?.failure ?? how;
      this.#running.delete(name);
      channel.end('the role has ended');
      this.#perform(this.#options.supervision.handleExit(name, reason, this.#options.now()));
      this.#settle();
    };
    child.on('error', (error) => {
      if (child.pid === undefined) exited(`cannot be started: ${error.message}`);
    });
    child.on('exit', (code, signal) => exited(signal ?? `code ${code}`));
    const channel = new MessageChannel<RoleMessage, CoreMessage>(
      child.stdio[ROLE_CHANNEL_FD] as Duplex,
      {
        messageBytesMax: MESSAGE_BYTES_MAX,
        decode: asRoleMessage,
        onMessage: (message) => this.#receive(name, message),
        onEnd: (reason) => {
          // Without a connection it is of no use, whatever it still does.
          if (this.#running.get(name)?.child === child) this.#killRole(name, reason);
        },
      },
    );
    this.#running.set(name, { child, channel });
    channel.send(role.begin());
  }

  #receive(name: string, message: RoleMessage): void {
    const { supervision, now, report, onReady } = this.#options;
    switch (message.kind) {
      case 'ready':
        onReady(name, message.addresses);
        this.#perform(supervision.handleReady(name, now()));
        break;
      case 'pong':
        this.#perform(supervision.handlePong(name, now()));
        break;
      case 'failing': {
        const running = this.#running.get(name);
        if (running !== undefined) running.failure = printable(message.reason);
        break;
      }
      case 'log':
        report(`role ${name}: ${printable(message.text)}`);
        break;
      default:
        this.#answer(name, message);
    }
  }

  #answer(name: string, question: Extract<RoleMessage, { id: number }>): void {
    const channel = this.#running.get(name)?.channel;
    try {
      const answer = this.#role(name).answer(question);
      if (answer !== undefined) channel?.send(answer);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      this.#options.report(`cannot answer '${question.kind}' of role ${name}: ${reason}`);
      channel?.send({ kind: 'refused', id: question.id, reason: reason.slice(0, 1_000) });
    }
  }

  #killRole(name: string, reason: string): void {
    const running = this.#running.get(name);
    if (running === undefined) return;
    if (this.#stopped === undefined) {
      if (running.failure === undefined) this.#options.report(`killing role ${name}: ${reason}`);
      running.child.kill('SIGKILL');
      return;
    }
    setTimeout(() => running.child.kill('SIGKILL'), STOP_GRACE_MS).unref();
    running.channel.end(reason);
  }

  #settle(): void {
    if (this.#running.size === 0) this.#stopped?.resolve();
  }

  #role(name: string): SupervisedRole {
    const role = this.#options.roles[name];
    if (role === undefined) throw new Error(`there is no role '${name}'`);
    return role;
  }
}

/** Nothing of ours but where Node keeps what it compiled, so that a role starts quickly. */
function roleEnvironment(own: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const cache = own['NODE_COMPILE_CACHE'];
  return {
    PATH: '/usr/sbin:/usr/bin:/sbin:/bin',
    LC_ALL: 'C',
    ...(cache === undefined ? {} : { NODE_COMPILE_CACHE: cache }),
  };
}

/** A role's words may be a stranger's: nothing but one printable line reaches the log. */
function printable(text: string): string {
  return text.replace(/[^\x20-\x7e]/g, (character) => {
    return `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`;
  });
}
