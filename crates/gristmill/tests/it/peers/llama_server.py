"""llama.cpp's own server: llama_server.py MODEL PORT KEY"""
import sys
import time

import xllamacpp

params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]
params.hostnames = ["127.0.0.1"]
params.port = int(sys.argv[2])
params.api_keys = [sys.argv[3]]
params.n_ctx = 1024
params.n_parallel = 2
params.cpuparams.n_threads = 1
server = xllamacpp.Server(params)
while True:
    time.sleep(60)
