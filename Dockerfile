# Container of gpt1 serve. PyTorch's CPU build has its own package index (see PyTorch's installation page):
#   docker build --build-arg PIP_EXTRA_INDEX_URL=… -t gpt1 .
# Without it pip installs the CUDA build, several GB. Example:
#   docker run --rm -p 8000:8000 -v ./runs/demo/model:/model:ro -e GPT1_API_KEY=… gpt1 /model --name demo --host 0.0.0.0
FROM python:3.12-slim

ARG PIP_EXTRA_INDEX_URL=""
ENV PIP_EXTRA_INDEX_URL=$PIP_EXTRA_INDEX_URL PYTHONUNBUFFERED=1 OMP_WAIT_POLICY=PASSIVE

WORKDIR /gpt1
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src src
RUN pip install --no-cache-dir --constraint constraints.txt '.[torch,serve]' && useradd --no-create-home gpt1

USER gpt1
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/ready')"]
ENTRYPOINT ["gpt1", "serve"]
CMD ["mini", "--host", "0.0.0.0"]
