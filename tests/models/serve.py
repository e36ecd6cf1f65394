"""llama.cpp's server, of a model that is given, on a free port of this machine; prints its address, and ends with its standard input."""
import sys

import xllamacpp


def main(path):
    """Serves."""
    params = xllamacpp.CommonParams()
    params.model.path = path
    params.hostnames = ["127.0.0.1"] if isinstance(params.hostnames, list) else params.hostnames
    params.port = 0
    params.n_ctx = 1024
    params.n_parallel = 1
    params.warmup = False
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    sys.stdin.read()
    # Its threads would be waited for.
    import os
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
