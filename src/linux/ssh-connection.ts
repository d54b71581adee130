/** By which connection a person is here, also behind sudo. */
import { readFileSync } from 'node:fs';

/** From a verb to the shell that sshd started: sudo, a script or two. */
const ANCESTORS_MAX = 16;

/**
 * The environment with $SSH_CONNECTION, by which a change is found that would cut its author off.
 * sudo takes it away, so it is looked for among the processes that led here.
 */
export function withSshConnection(own: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  let pid = process.ppid;
  for (let count = 0; own[SSH] === undefined && pid > 1 && count < ANCESTORS_MAX; count++) {
    const found = readProcess(pid);
    if (found === undefined) break;
    const [, connection] = RegExp(`(?:^|\\0)${SSH}=([^\\0]+)`).exec(found.environment) ?? [];
    if (connection !== undefined) return { ...own, [SSH]: connection };
    pid = found.parentPid;
  }
  return own;
}

const SSH = 'SSH_CONNECTION';

/** @returns undefined when it has ended, or is somebody else's */
function readProcess(pid: number): { parentPid: number; environment: string } | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // Behind the name, which may hold anything: state and parent.
    const parentPid = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
    return { parentPid, environment: readFileSync(`/proc/${pid}/environ`, 'latin1') };
  } catch {
    return undefined;
  }
}
