package settlement

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"acquirer/store"
)

// Callback returns the handler for a bank's callbacks: POST {"reference"}, signed
// with the secret shared with the bank (CallbackHeader). It answers 204 when it
// was heard, 401 when the signature is wrong or older than five minutes, 404 for
// a reference nobody ordered, 503 when the bank should call again. Nothing a
// callback says is believed (Notified); the signature keeps strangers from
// making us ask.
func (e *Engine) Callback(secret []byte) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var in struct {
			Reference string `json:"reference"`
		}
		if r.Method != http.MethodPost {
			http.Error(w, "POST only", http.StatusMethodNotAllowed)
			return
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 4<<10))
		if err != nil {
			http.Error(w, "the callback could not be read", http.StatusBadRequest)
			return
		}
		if !signedCallback(secret, r.Header.Get(CallbackHeader), body, time.Now()) {
			http.Error(w, "the signature is wrong or old", http.StatusUnauthorized)
			return
		}
		if err := json.Unmarshal(body, &in); err != nil || !plainReference(in.Reference) {
			http.Error(w, `want {"reference":"..."}`, http.StatusBadRequest)
			return
		}
		switch err := e.Notified(r.Context(), in.Reference, time.Now()); {
		case err == nil:
			w.WriteHeader(http.StatusNoContent)
		case errors.Is(err, store.ErrNotFound):
			http.Error(w, "unknown reference", http.StatusNotFound)
		default:
			http.Error(w, "try again", http.StatusServiceUnavailable)
		}
	})
}

// CallbackHeader carries a callback's signature: t=UNIXTIME,v1=HEX, the
// HMAC-SHA-256 of "UNIXTIME.BODY" under the secret.
const CallbackHeader = "X-Signature"

// callbackAge is how old a signature may be, and how far ahead its clock.
const callbackAge = 5 * time.Minute

func signedCallback(secret []byte, header string, body []byte, now time.Time) bool {
	stamp, sum, ok := strings.Cut(header, ",v1=")
	stamp, timed := strings.CutPrefix(stamp, "t=")
	at, err := strconv.ParseInt(stamp, 10, 64)
	got, bad := hex.DecodeString(sum)
	if !ok || !timed || err != nil || bad != nil || len(secret) == 0 {
		return false
	}
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(stamp + "."))
	mac.Write(body)
	return hmac.Equal(mac.Sum(nil), got) && now.Sub(time.Unix(at, 0)).Abs() <= callbackAge
}
