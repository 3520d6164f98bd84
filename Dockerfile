# A worker's image, with nothing of a project in it: `docker build --tag metaloom .`
FROM python:3.11-slim
COPY . /source
RUN /source/.ci/image /source /opt/metaloom
ENV PATH=/opt/metaloom/bin:$PATH
RUN useradd --create-home --uid 1000 metaloom && install --directory --owner metaloom /work
USER metaloom
WORKDIR /work
