/** The Debian packages: which of them what purpose needs, and installing those that are missing. */
import { mkdirSync, readdirSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { lastLines, runCommand, SetUpError, wasMissing } from './command.mjs';

/** @typedef {import('./requirements.mjs').Purpose} Purpose */

/**
 * How long to wait for another apt on this machine, for example unattended upgrades after boot.
 * One that takes longer than this has most likely stopped.
 */
const LOCK_TIMEOUT_S = 600;

/** How often to ask for the locks that apt itself does not wait for. */
const LOCK_RETRY_MS = 500;

/**
 * Package, purposes. What each is for, and why this one: docs/dependencies.md. The purpose `unit`
 * needs none.
 *
 * @type {Readonly<Record<string, readonly Purpose[]>>}
 */
export const debianPackages = {
  bpftool: ['test', 'check'],
  busybox: ['run', 'test'],
  clang: ['run', 'test', 'check'],
  'clang-format': ['test', 'check'],
  coturn: ['test'],
  'dropbear-bin': ['test'],
  e2fsprogs: ['test'],
  ethtool: ['run', 'test'],
  git: ['test', 'check'],
  iperf3: ['test'],
  iproute2: ['run', 'test'],
  'iputils-ping': ['run', 'test'],
  'libbpf-dev': ['run', 'test', 'check'],
  libbpf1: ['run', 'test'],
  'libc6-dev': ['run', 'test', 'check'],
  'linux-libc-dev': ['run', 'test', 'check'],
  libnftables1: ['test'],
  mount: ['test'],
  netbase: ['run', 'test'],
  nftables: ['run', 'test'],
  passwd: ['run', 'test'],
  procps: ['test'],
  'qemu-system-x86': ['test'],
  tcpdump: ['test'],
  traceroute: ['test'],
  tshark: ['test'],
  udhcpc: ['run', 'test'],
  'util-linux': ['run', 'test'],
};

/**
 * Packages of which we want the programs only, and the service that they would start for the whole
 * machine, now and at each boot. systemd(1) starts no unit that is a link to /dev/null.
 *
 * @type {Readonly<Record<string, string>>}
 */
const unwantedServices = { coturn: 'coturn.service' };

/** @param {Purpose} purpose */
export function packagesFor(purpose) {
  return Object.keys(debianPackages).filter((name) => debianPackages[name]?.includes(purpose));
}

/**
 * Installs what the purpose needs and the machine lacks. When nothing is missing it runs one
 * dpkg-query and nothing else.
 *
 * @param {Purpose} purpose
 * @param {{
 *   userId: number,
 *   say: (line: string) => void,
 *   journalFolder?: string,
 *   unitFolder?: string,
 * }} options `journalFolder` is where dpkg keeps what it has not finished, `unitFolder` where the
 *   administrator's word about services stands
 * @throws {SetUpError} when a package stays missing
 */
export async function installDebianPackages(purpose, options) {
  const wanted = packagesFor(purpose);
  if (wanted.length === 0) return;
  const query = await queryInstalled(wanted);
  if (wasMissing(query)) {
    throw new SetUpError(
      'Gatehouse sets itself up on Debian 12, and this system has no dpkg. Install what these ' +
        `Debian packages hold, then run the programs directly: ${wanted.join(', ')}.`,
    );
  }
  const missing = missingAmong(wanted, query.stdout);
  if (missing.length === 0) return;
  if (options.userId !== 0) {
    throw new SetUpError(
      'Debian packages are missing. Install them as root: ' +
        `apt-get install --no-install-recommends ${missing.join(' ')}`,
    );
  }
  options.say(`Installing Debian packages: ${missing.join(' ')}`);
  maskServices(missing, options);
  const apt = await install(missing, options);
  const stillMissing = missingAmong(wanted, (await queryInstalled(wanted)).stdout);
  if (stillMissing.length > 0) {
    throw new SetUpError(
      `The Debian packages ${stillMissing.join(', ')} could not be installed; see below for what ` +
        `apt-get said, and run this again once that is solved.${lastLines(apt)}`,
    );
  }
}

/** @param {readonly string[]} names */
function queryInstalled(names) {
  // biome-ignore lint/suspicious/noTemplateCurlyInString: these are dpkg-query's placeholders
  const format = '${Package} ${db:Status-Status}\n';
  return runCommand(['dpkg-query', '--show', `--showformat=${format}`, ...names], {
    env: plainEnvironment(),
  });
}

/**
 * dpkg-query leaves out what it has never heard of, and knows states between absent and installed.
 *
 * @param {readonly string[]} wanted
 * @param {string} queried
 */
function missingAmong(wanted, queried) {
  const lines = new Set(queried.split('\n'));
  return wanted.filter((name) => !lines.has(`${name} installed`));
}

/**
 * A package that is there already keeps its service: somebody may want it.
 *
 * @param {readonly string[]} missing
 * @param {{ say: (line: string) => void, unitFolder?: string }} options
 */
function maskServices(missing, { say, unitFolder = '/etc/systemd/system' }) {
  for (const name of missing) {
    const unit = unwantedServices[name];
    if (unit === undefined) continue;
    try {
      mkdirSync(unitFolder, { recursive: true });
      symlinkSync('/dev/null', join(unitFolder, unit));
      say(`Keeping the service of ${name} off; to have it: systemctl unmask ${unit}`);
    } catch (cause) {
      // The administrator has said something about it already.
      if (/** @type {NodeJS.ErrnoException} */ (cause).code !== 'EEXIST') throw cause;
    }
  }
}

/**
 * The package lists are fetched only when an installation with the present ones fails: on most
 * machines they are recent, and a mirror that is out of reach need not matter.
 *
 * @param {readonly string[]} missing
 * @param {{ say: (line: string) => void, journalFolder?: string }} options
 * @returns {Promise<string>} what the last attempts printed
 */
async function install(missing, options) {
  await finishInterrupted(options);
  const attempt = () =>
    aptGet(['install', '-y', '--no-install-recommends', ...missing], options.say);
  const first = await attempt();
  if (first.code === 0) return first.output;
  const update = await aptGet(['update'], options.say);
  await aptGet(['--fix-broken', 'install', '-y'], options.say);
  const second = await attempt();
  return reasons({ update: update.output, install: second.output });
}

/**
 * apt-get update ends well even if a mirror was out of reach, and then every package is unknown;
 * that it is unknown is not the reason.
 *
 * @param {{ update: string, install: string }} outputs
 */
function reasons({ update, install }) {
  const complaints = update.split('\n').filter((line) => /^(E|W|Err): ?/.test(line));
  if (complaints.length === 0) return install;
  const others = install.split('\n').filter((line) => !line.includes('Unable to locate package'));
  return [...others, ...complaints].join('\n');
}

/**
 * An installation that was killed leaves dpkg in the middle, and apt refuses to go on.
 *
 * @param {{ say: (line: string) => void, journalFolder?: string }} options
 */
async function finishInterrupted({ say, journalFolder = '/var/lib/dpkg/updates' }) {
  const audit = await runCommand(['dpkg', '--audit'], { env: plainEnvironment() });
  if (audit.output.trim() === '' && readdirSync(journalFolder).length === 0) return;
  say('Finishing an earlier installation that was interrupted');
  // When this fails, so does the installation that follows, and its message is the better one.
  await runCommand(['dpkg', '--configure', '-a', '--force-confdef', '--force-confold'], {
    env: plainEnvironment(),
  });
}

/**
 * @param {readonly string[]} argv
 * @param {(line: string) => void} say
 */
async function aptGet(argv, say) {
  const options = [
    ...['-o', `DPkg::Lock::Timeout=${LOCK_TIMEOUT_S}`],
    ...['-o', 'Dpkg::Options::=--force-confdef', '-o', 'Dpkg::Options::=--force-confold'],
  ];
  const deadline = Date.now() + LOCK_TIMEOUT_S * 1000;
  for (let tries = 1; ; tries += 1) {
    const result = await runCommand(['apt-get', ...options, ...argv], { env: plainEnvironment() });
    // apt waits for dpkg's lock by itself, but not for those of its lists and its archive.
    const isLocked = result.code !== 0 && /Could not get lock/.test(result.output);
    if (!isLocked || Date.now() > deadline) return result;
    if (tries === 1) say('Waiting for another apt on this machine to finish');
    await pause(LOCK_RETRY_MS);
  }
}

/** No questions, and messages in the language that this file looks for. */
function plainEnvironment() {
  return { ...process.env, DEBIAN_FRONTEND: 'noninteractive', LC_ALL: 'C.UTF-8' };
}
