"""FastAPI beside InvokeEndpoint: the same path, the same request, the same model. MODEL names its file."""

import json
import os

import lightgbm
import numpy
from fastapi import FastAPI, Request, Response

booster = lightgbm.Booster(model_file=os.environ["MODEL"])
app = FastAPI()


@app.get("/ping")
def ping():
    return Response()


@app.post("/endpoints/hydro/invocations")
async def invocations(request: Request):
    rows = numpy.array(json.loads(await request.body())["instances"])
    predicted = booster.predict(rows, num_threads=1)
    return Response(json.dumps({"predictions": predicted.tolist()}), media_type="application/json")
