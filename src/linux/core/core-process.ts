/** `gatehouse run`: the core as a process, from its start to SIGTERM or Ctrl-C. */
import { logCommandsTo } from '../command-runner.ts';
import { connectServiceNotifier, type ServiceNotifier } from '../service-notifier.ts';
import { type CoreOptions, startCore } from './core.ts';

/**
 * Runs until SIGINT or SIGTERM. A SIGHUP changes nothing: a config is applied with its confirm
 * timer and never by a signal.
 *
 * @param print what a person in front of it should see
 * @throws Error that says what is in the way, or what could not be taken down
 */
export async function runCore(options: CoreOptions, print: (text: string) => void): Promise<void> {
  logCommandsTo(options.log);
  // Whatever is made is for root alone, sockets included.
  process.umask(0o077);
  const ended = nextEndSignal();
  ignoreHangUps(options.log);
  const manager = connectServiceNotifier(process.env);
  const core = await startCore(options);
  const status = core.status();
  const stopAnnouncing = announce(manager);
  if (status !== undefined) {
    const { version, revision, ruleset, ruleCount } = status;
    const which = revision === undefined ? '' : `revision ${revision}, `;
    print(`gatehouse ${version} runs: ${which}${ruleCount} rules (${ruleset})\n`);
  }
  await ended;
  stopAnnouncing();
  await core.stop();
}

/** The handlers stay, so that a second signal does not end the process while it takes down. */
function nextEndSignal(): Promise<void> {
  return new Promise((resolve) => {
    process.on('SIGINT', () => resolve());
    process.on('SIGTERM', () => resolve());
  });
}

function ignoreHangUps(log: (text: string) => void): void {
  let isTold = false;
  process.on('SIGHUP', () => {
    if (!isTold) log('SIGHUP changes nothing: gatehouse apply takes a new config up');
    isTold = true;
  });
}

/** Tells systemd that we are ready and, as often as it asks for, that we live. */
function announce(manager: ServiceNotifier): () => void {
  manager.notify('READY=1');
  const { watchdogEveryMs } = manager;
  const feed = () => manager.notify('WATCHDOG=1');
  const timer = watchdogEveryMs === undefined ? undefined : setInterval(feed, watchdogEveryMs);
  return () => {
    clearInterval(timer);
    manager.notify('STOPPING=1');
  };
}
