# make run    the demo world: terminals, issuers, wallets, bank, console, on an embedded database
# make test   everything the repository can prove about itself
# make help   the others
GO      ?= go
BIN     := bin/acquirer
FUZZTIME ?= 30s
SEEDS    ?= 50
MODEL    ?= 600000

.PHONY: help run build test lint bench drill fuzz simulate model reconcile-million planted crash deps docs clean

run: ## the demo world; prints what to look at
	$(GO) run ./cmd/acquirer demo

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1: /p' Makefile | sort

build: ## the binary, in bin/
	$(GO) build -trimpath -o $(BIN) ./cmd/acquirer

test: deps lint ## vet, staticcheck, every test, then the concurrent packages again under the race detector
	$(GO) test -timeout 20m ./...
	$(GO) test -race -short -timeout 20m -p 1 ./spec ./hsm/... ./routing ./switch ./limits ./download ./simulate/...

lint: ## gofmt, vet, staticcheck
	@out=$$(gofmt -l $$(git ls-files -co --exclude-standard '*.go')); if [ -n "$$out" ]; then echo "not formatted:"; echo "$$out"; exit 1; fi
	$(GO) vet ./...
	$(GO) tool staticcheck ./...

bench: ## the message path as separate processes on loopback; the table of docs/performance.md
	$(GO) test ./bench -run '^$$' -bench Table -benchtime 1x -timeout 30m

drill: ## four issuers, three of them bad, under half the load the machine can take; the figures of docs/reliability.md
	$(GO) test ./cmd/acquirer -run '^TestDrill$$' -count=1 -v -timeout 15m -drill 60s

fuzz: ## every fuzz target for FUZZTIME each
	@for p in $$($(GO) list ./...); do \
	  dir=$$($(GO) list -f '{{.Dir}}' $$p); \
	  for f in $$(grep -ho 'func Fuzz[A-Za-z0-9]*' $$dir/*_test.go 2>/dev/null | sed 's/func //' | sort -u); do \
	    echo "== $$p $$f"; $(GO) test $$p -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) -parallel 2 || exit 1; \
	  done; \
	done

simulate: ## streets in fake time: SEED=n runs one, SEEDS=n the first n, SEED and SEEDS n from there on (docs/reliability.md)
	TMPDIR=$$(test -w /dev/shm && echo /dev/shm || echo $${TMPDIR:-/tmp}) $(GO) test ./simulate/street -run '^TestStreet$$' -v -timeout 120m -street.seed=$(or $(SEED),1) -street.seeds=$(if $(SEED),$(if $(filter command line,$(origin SEEDS)),$(SEEDS),1),$(SEEDS))

model: ## random days of settlement on both engines until MODEL transactions were sold on each (docs/reliability.md)
	TMPDIR=$$(test -w /dev/shm && echo /dev/shm || echo $${TMPDIR:-/tmp}) $(GO) test ./settlement -run '^TestRandomDays$$' -v -timeout 240m -rapid.checks=20 -rapid.nofailfile -model.sales=$(MODEL)

reconcile-million: ## a clearing file of a million lines, loaded and compared in bounded memory (docs/clearing.md)
	TMPDIR=$$(test -w /dev/shm && echo /dev/shm || echo $${TMPDIR:-/tmp}) ACQUIRER_RECONCILE_LINES=1000000 $(GO) test ./settlement/reconcile -run '^TestManyLines$$' -v -timeout 60m

planted: ## builds the tests with every planted bug and looks whether they find it (docs/reliability.md)
	$(GO) test ./fault -run '^TestPlanted$$' -planted -v -timeout 120m

KILLS    ?= 500
KILLS_PG ?= 60
ROUNDS   ?= 3

crash: ## KILLS at every fault point on SQLite, KILLS_PG on PostgreSQL, every deed at each of its points on both, then ROUNDS of every fault of lines, database and disk, and of all that may meet at one sale
	ACQUIRER_CRASH_KILLS=$(KILLS) ACQUIRER_CRASH_POSTGRES=$(KILLS_PG) $(GO) test -tags fault ./fault ./cmd/acquirer -run 'TestHit|TestUnknownPoint|TestCrashCampaign|TestCrashDeeds' -v -timeout 90m
	ACQUIRER_FAULT_ROUNDS=$(ROUNDS) ACQUIRER_AT_ONCE=$(ROUNDS) $(GO) test ./cmd/acquirer -run 'TestFault|TestAtOnce' -v -timeout 60m

deps: ## what the tests use besides Go: PostgreSQL, Chromium, Prometheus, JBIG-KIT, Wireshark
	@sh deploy/test-deps.sh

docs: ## the pages that are printed from the binary
	$(GO) run ./cmd/acquirer config --markdown > docs/configuration.md

clean: ## removes bin and data, the database in it too
	rm -rf bin data
