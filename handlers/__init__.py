"""Ready-made handlers for CPU-heavy work on real input, each a model of how to write one.

    compress      files with zlib, bz2 or lzma                 typed payload, progress, cleans up when stopped
    digest        checksum of a file or of a folder            typed payload, `no_retry_on`
    source        functions, complexity, imports of Python     typed payload and typed result
    text          search and word counts over a folder         plain dict; returns what it has at its soft timeout
    images        thumbnails and filters                       needs the extra `images` (Pillow)
    numeric       eigenvalues, Monte Carlo                     needs the extra `numeric` (numpy)
    pure_python   primes, Mandelbrot                           no input at all: for trying things out
    misbehaving   every bad thing a handler can do             for tests and the demo, never for production

In the source tree this folder is `handlers/`; installed, the package is called
`ganger_handlers`, so that a package of yours called `handlers` stays yours:

    ganger run --handlers ganger_handlers.compress --handlers my_project.tasks

They read and write any path that the worker's user may. Serve them only to
people whom you would give that user's account.
"""
