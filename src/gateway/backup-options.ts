/** What a person says about a backup that is to be made or restored. */
export interface BackupOptions {
  /** The backup. */
  readonly file: string;
  readonly configFile: string;
  readonly stateFolder: string;
  /** Encrypts or decrypts it. */
  readonly passphrase?: string;
}
