/**
 * Restores a backup and is killed ahead of one of its calls that change files:
 * `node restore-victim.ts FOLDER BACKUP NUMBER`. Prints how many there were when it lives on.
 */
import { join } from 'node:path';
import { restoreBackup } from '../../src/linux/backup/restore-backup.ts';
import { watchFileCalls } from './file-calls.ts';

const [folder = '', file = '', number = ''] = process.argv.slice(2);
const options = {
  file,
  configFile: join(folder, 'gatehouse.yaml'),
  stateFolder: join(folder, 'state'),
};
const program = { version: '0.1.0', schema: 0, now: () => new Date(0) };

let callCount = 0;
let restoring: ReturnType<typeof restoreBackup> | undefined;
const killAt = () => {
  if (callCount++ === Number(number)) process.kill(process.pid, 'SIGKILL');
};
watchFileCalls(killAt, () => {
  restoring = restoreBackup(options, program);
});
const result = await restoring;
process.stdout.write(`${JSON.stringify(result)}\n${callCount}\n`);
process.exitCode = result?.success === true ? 0 : 1;
