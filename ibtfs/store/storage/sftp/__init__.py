"""A repository on another machine, by SFTP through OpenSSH's ssh."""
