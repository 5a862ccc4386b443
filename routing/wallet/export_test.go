package wallet

import "time"

// verbs are the questions by number, for tests.
var verbs = []verb{pay, query, cancel, refund, refundQuery}

// MethodOf is Alipay's method of a question.
func MethodOf(n int) string { return alipayMethods[verbs[n%len(verbs)]] }

// Read gives an answer to a wire, as if question n of p had been asked.
func Read(w Wire, n int, p Payment, body string) (Result, error) {
	q := &question{verb: verbs[n%len(verbs)], Order: p.Order, code: p.Code, refund: Refund{Number: "B1", Amount: 200, Made: time.Now()}, at: time.Now()}
	return w.answer(q, []byte(body))
}

// Ask is what a wire asks, as text.
func Ask(w Wire, n int, p Payment, sub string, back Refund) (url, body string, err error) {
	q := &question{verb: verbs[n%len(verbs)], Order: p.Order, sub: sub, code: p.Code, name: p.Name, refund: back, at: time.Now()}
	c, err := w.ask("http://shop", q)
	return c.url, string(c.body), err
}
