"""The console: web pages over the typed client, for people who would rather look than type.

`launch` binds a port and starts a process of pages when somebody opens one; it imports the standard library only, so that
`modelyard up` can hold the door without loading what is behind it. `server` is that process: NiceGUI behind `gate`, which lets in
who came by a one-time link (`door`). `pages` has one module a page, `parts` what they are made of.
"""
